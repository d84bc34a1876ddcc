"""Copies a snapshot into one store after another, and dies in each as by kill -9 at a named step. Forks: imports come once."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from softprompt_core.store import runs
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger.lock import DecisionLock
from softprompt_core.transfer.copy import Order, copy
from softprompt_core.transfer.snapshot import Snapshot
from tests.services.forks import exit_codes


def die(*_: Any, **__: Any) -> None:
    os._exit(9)


def arm(step: str) -> None:
    """Die right before a step that a lock announces, before a call of MLflow's client, or before the run is closed."""
    from mlflow import MlflowClient

    if step == "finish":
        runs.finish = die
    elif hasattr(MlflowClient, step):
        setattr(MlflowClient, step, die)
    else:
        heartbeat = DecisionLock.heartbeat
        DecisionLock.heartbeat = lambda lock, now: die() if now == step else heartbeat(lock, now)


def main(snapshot: str, works: str) -> None:
    def copy_and_die(work: tuple[str, str]) -> None:
        os.environ["SOFTPROMPT_HOME"], step = work
        arm(step)
        copy(Store.connect(), Snapshot.load(Path(snapshot)), Order("staging", "ann", "release"))

    print(json.dumps(exit_codes(json.loads(works), copy_and_die)))


if __name__ == "__main__":
    main(*sys.argv[1:])
