"""How the bundled base model was made."""
