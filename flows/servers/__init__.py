"""Prefect's server: the one that is set, and the one that a command starts for itself."""
