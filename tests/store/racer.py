"""Several processes that do the same thing at once, without a shared folder: only the record in MLflow is common to them.

Imports once and then forks, because importing MLflow takes seconds; the children begin together when all are there. Each has a
home of its own, so that no lock file keeps them apart. Prints a JSON list with the result of each.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from softprompt_core.store.addresses import Addresses
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger.moves import ChampionMoved
from softprompt_core.store.ledger.recording import with_current_champion
from softprompt_core.store.versions import aliases
from tests.store.dying import die_before
from tests.store.ledgers import decide


def connect(tracking_uri: str, home: Path) -> str:
    Store.connect(Addresses(tracking_uri, None, None, home))
    return "connected"


def promote(tracking_uri: str, home: Path, name: str, version: int, expected: int | None, dies_before: str | None = None) -> str:
    """Promote once; with ``expected`` -1 as the lifecycle does it: compare with the new champion and try again."""
    if dies_before is not None:
        die_before(dies_before)
    store = Store.connect(Addresses(tracking_uri, None, None, home))
    for _ in range(100):
        champion = aliases(store, name).get("champion") if expected == -1 else expected
        try:
            return decide(store, name, version, champion, by=f"racer {version}").value
        except ChampionMoved:
            if expected != -1:
                return "moved"
    return "never"


def contend(tracking_uri: str, home: Path, name: str, version: int, outcome: str, comparing_s: float) -> str:
    """Decide as a lifecycle does: compare with the champion, which takes its time, and record; until it stands."""
    store = Store.connect(Addresses(tracking_uri, None, None, home))

    def attempt() -> str:
        champion = aliases(store, name).get("champion")
        time.sleep(comparing_s)
        return decide(store, name, version, champion, outcome, by=f"racer {version}").value

    return with_current_champion(store, name, attempt)


def main(work: str) -> None:
    import mlflow.store.model_registry.sqlalchemy_store
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    order = json.loads(work)
    action = {"connect": connect, "contend": contend, "promote": promote}[order["action"]]
    start_read, start_write = os.pipe()
    children = []
    for number, arguments in enumerate(order["racers"]):
        result_read, result_write = os.pipe()
        ready_read, ready_write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(start_write)
            home = Path(order["home"]) if order["shared"] else Path(order["home"]) / f"machine {number}"
            os.write(ready_write, b"r")
            os.read(start_read, 1)
            try:
                result = action(order["tracking_uri"], home, *arguments)
            except BaseException as error:
                result = f"{type(error).__name__}: {error}"
            os.write(result_write, result.encode()[:4000])
            os._exit(0)
        os.close(result_write)
        os.read(ready_read, 1)
        children.append((child, result_read))
    os.close(start_write)  # end of file for all of them at the same moment
    os.close(start_read)
    results = []
    for child, result_read in children:
        with os.fdopen(result_read, "rb") as pipe:
            result = pipe.read().decode()
        _, status = os.waitpid(child, 0)
        results.append(result or f"died {os.waitstatus_to_exitcode(status)}")
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
