"""Dies as by kill -9 right before a named step of a decision. Forks for each decision, so that MLflow is imported once."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from softprompt_core.store.addresses import Addresses
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger.lock import DecisionLock
from softprompt_core.store.ledger.pruning import prune
from softprompt_core.store.ledger.recording import rollback
from tests.services.forks import exit_codes
from tests.store.ledgers import decide


def act(store: Store, name: str, action: str) -> None:
    if action == "rollback":
        rollback(store, name=name, by="ann", reason="bad answers")
    elif action == "prune":
        prune(store, name=name, keep=0, by="ann", reason="old")
    else:
        decide(store, name, 3, expected=2, outcome=action)


def die_before(step: str) -> None:
    """Let this process die at a heartbeat, with nothing cleaned up."""
    heartbeat = DecisionLock.heartbeat

    def heartbeat_or_die(lock: DecisionLock, at: str) -> None:
        if at == step:
            os._exit(9)
        heartbeat(lock, at)

    DecisionLock.heartbeat = heartbeat_or_die


def main(tracking_uri: str, home: str, works: str) -> None:
    def die_at(work: dict[str, str]) -> None:
        die_before(work["step"])
        act(Store.connect(Addresses(tracking_uri, None, None, Path(home))), work["name"], work["action"])

    print(json.dumps(exit_codes(json.loads(works), die_at)))


if __name__ == "__main__":
    main(*sys.argv[1:])
