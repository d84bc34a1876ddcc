"""One of several processes that do the same thing at once: says `ready`, waits for a line, acts, prints what came of it."""

import sys
from pathlib import Path

from softprompt_core.errors import Outcome
from softprompt_core.registry import ChampionMoved, Evidence, Stores, connect, record_decision


def main(action: str, tracking_uri: str, home: str, name: str = "", version: str = "", expected: str = "") -> None:
    import mlflow  # noqa: F401  (its import takes seconds; the race begins after it)

    stores = Stores(tracking_uri, None, None, Path(home))
    client = connect(stores) if action == "promote" else None
    print("ready", flush=True)
    sys.stdin.readline()
    if client is None:
        connect(stores)
        print("connected", flush=True)
        return
    try:
        outcome = record_decision(
            client,
            stores,
            name=name,
            version=int(version),
            expected_champion=int(expected),
            outcome=Outcome.PROMOTED,
            by=f"process {version}",
            reason="race",
            evidence=Evidence("0" * 32, "f" * 64),
        )
    except ChampionMoved:
        print("moved", flush=True)
    else:
        print(outcome.value, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
