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
    import mlflow.store.model_registry.sqlalchemy_store
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    codes = []
    for home, step in json.loads(works):
        child = os.fork()
        if child == 0:
            try:
                os.environ["SOFTPROMPT_HOME"] = home
                arm(step)
                copy(Store.connect(), Snapshot.load(Path(snapshot)), Order("staging", "ann", "release"))
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(json.dumps(codes))


if __name__ == "__main__":
    main(*sys.argv[1:])
