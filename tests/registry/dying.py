"""Dies as by kill -9 right before a named step of a decision. Forks for each work, so that MLflow is imported once."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from softprompt_core.errors import Outcome
from softprompt_core.registry import Evidence, Stores, connect, prune, record_decision, rollback
from softprompt_core.registry.turns import Turn


def act(stores: Stores, work: dict) -> None:
    client, name = connect(stores), work["name"]
    if work["action"] == "rollback":
        rollback(client, stores, name=name, by="ann", reason="bad answers")
    elif work["action"] == "prune":
        prune(client, stores, name=name, keep=0, by="ann", reason="old")
    else:
        record_decision(
            client,
            stores,
            name=name,
            version=3,
            expected_champion=2,
            outcome=Outcome(work["action"]),
            by="ann",
            reason="gates",
            evidence=Evidence("0" * 32, "f" * 64),
        )


def main(tracking_uri: str, home: str, works: str) -> None:
    import mlflow.store.model_registry.sqlalchemy_store
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    codes = []
    for work in json.loads(works):
        child = os.fork()
        if child == 0:
            confirm = Turn.confirm

            def deadly(turn: Turn, step: str, at: str = work["step"], confirm=confirm) -> None:
                if step == at:
                    os._exit(9)
                confirm(turn, step)

            Turn.confirm = deadly
            try:
                act(Stores(tracking_uri, None, None, Path(home)), work)
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(json.dumps(codes))


if __name__ == "__main__":
    main(*sys.argv[1:])
