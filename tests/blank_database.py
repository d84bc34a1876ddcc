"""An MLflow database with its tables and nothing in them; making those takes seconds."""

from __future__ import annotations

from pathlib import Path

from softprompt_core.store.addresses import Addresses
from softprompt_core.store.connection import Store


def make_blank_database(folder: Path) -> Path:
    """Make ``mlflow.db`` in a folder; returns the folder."""
    folder.mkdir(parents=True)
    Store.connect(Addresses(f"sqlite:///{folder / 'mlflow.db'}", None, None, folder))
    return folder
