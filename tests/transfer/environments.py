"""Two environments, each a folder with a SQLite store: versions are made in one, copied to the other."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from softprompt_core.store.connection import Store
from softprompt_core.transfer.fetch import fetch
from softprompt_core.transfer.snapshot import Snapshot
from tests.lifecycles import at_home, run_lifecycle
from tests.toy_task import write_toy


def new_store(home: Path, blank_database: Path) -> Path:
    home.mkdir(parents=True)
    shutil.copy(blank_database, home / "mlflow.db")
    return home


def make_version(home: Path, folder: Path, base: Path, **spec: Any) -> int:
    """Run the lifecycle of a toy task; returns the number of the new version."""
    with at_home(home):
        return run_lifecycle(write_toy(folder, base, **spec)).version


def fetched(home: Path, name: str, which: str, to: Path) -> Snapshot:
    """What ``fetch_all`` gets from a process of its own."""
    with at_home(home):
        return fetch(Store.connect(), name, which, to)
