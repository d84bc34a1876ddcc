"""What differs from place to place: prompt specs, demo data, environments."""
