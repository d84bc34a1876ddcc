"""Several processes that do the same thing at once, without a shared folder: only the record in MLflow is common to them.

Imports once and then forks, because importing MLflow takes seconds; the children begin together when all are there. Each has a
home of its own, so that no lock file keeps them apart. Prints a JSON list with what came of each.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from softprompt_core.errors import Outcome
from softprompt_core.registry import ChampionMoved, Evidence, Stores, aliases, connect, record_decision
from softprompt_core.registry.turns import Turn

EVIDENCE = Evidence("0" * 32, "f" * 64)


def connected(tracking_uri: str, home: Path) -> str:
    connect(Stores(tracking_uri, None, None, home))
    return "connected"


def promote(tracking_uri: str, home: Path, name: str, version: int, expected: int | None, dies_before: str | None = None) -> str:
    """Promote once; with ``expected`` -1 as the lifecycle does it: compare with the new champion and try again."""
    if dies_before is not None:
        _die_before(dies_before)
    stores = Stores(tracking_uri, None, None, home)
    client = connect(stores)
    for _ in range(100):
        try:
            return record_decision(
                client,
                stores,
                name=name,
                version=version,
                expected_champion=aliases(client, name).get("champion") if expected == -1 else expected,
                outcome=Outcome.PROMOTED,
                by=f"racer {version}",
                reason="race",
                evidence=EVIDENCE,
            ).value
        except ChampionMoved:
            if expected != -1:
                return "moved"
    return "never"


def _die_before(step: str) -> None:
    confirm = Turn.confirm

    def deadly(turn: Turn, at: str) -> None:
        if at == step:
            os._exit(9)  # nothing is cleaned up, as after kill -9
        confirm(turn, at)

    Turn.confirm = deadly


def main(work: str) -> None:
    import mlflow.store.model_registry.sqlalchemy_store
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    given = json.loads(work)
    go_read, go_write = os.pipe()
    children = []
    for number, arguments in enumerate(given["racers"]):
        said_read, said_write = os.pipe()
        ready_read, ready_write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(go_write)
            home = Path(given["home"]) if given["shared"] else Path(given["home"]) / f"machine {number}"
            os.write(ready_write, b"r")
            os.read(go_read, 1)
            try:
                said = {"connect": connected, "promote": promote}[given["action"]](given["tracking_uri"], home, *arguments)
            except BaseException as error:
                said = f"{type(error).__name__}: {error}"
            os.write(said_write, said.encode()[:4000])
            os._exit(0)
        os.close(said_write)
        os.read(ready_read, 1)
        children.append((child, said_read))
    time.sleep(0.05)
    os.close(go_write)  # end of file for all of them at the same moment
    os.close(go_read)
    results = []
    for child, said_read in children:
        with os.fdopen(said_read, "rb") as pipe:
            said = pipe.read().decode()
        _, status = os.waitpid(child, 0)
        results.append(said or f"died {os.waitstatus_to_exitcode(status)}")
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
