"""Run every scenario and write what came of it: ``python -m tests.faults --write docs/faults.md``."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.blank_database import make_blank_database
from tests.faults.running import FaultRun, cannot_run, check, run_scenario
from tests.faults.scenarios import SCENARIOS
from tests.faults.servers import Servers
from tests.toy_task import save_taught

HEAD = """# Faults

What a lifecycle, and whoever runs it, sees when something dies. Every row was run for real while `softprompt run` was held at
that moment: a process gets SIGKILL; a server is cut off (its connections drop, new ones are refused) or gets SIGKILL; a disk
of its own runs full. Then everything is brought back, `softprompt doctor` looks, and the same command runs once more. Made by
`python -m tests.faults --write docs/faults.md`; the rows are in `tests/faults/scenarios.py`, and `tests/faults/test_faults.py`
checks them. The wait for a server (`server_wait_s`, 120 s by default) was 60 s, and 2 s where it stayed away.

| Fault | At | Outcome (exit) | Lost | Run again | `doctor` in between |
| --- | --- | --- | --- | --- | --- |
"""

TAIL = """
After every row: `champion` points at the last promoted version and the ledger says so; no incomplete version is
visible, none is left; no run is left RUNNING; no step is twice in a curve; `doctor` finds nothing (after a
killed process once `doctor --repair` has closed its flow run in Prefect).

"Soon" is while `server_wait_s` lasts. Training itself waits for nobody. Moments: *training*, with checkpoints behind and
steps ahead; *upload*, some of a version's files have arrived; *registration*, all have, and there is no version; *half
registered*, there is a version that is not marked as whole; *decision*, registered and not decided about; *promotion*, the
alias has moved and the ledger does not say so yet. `tests/store/test_recovery.py` has the other steps of a decision.
"""


def row(run: FaultRun) -> str:
    scenario, first = run.scenario, run.first
    outcome = "killed" if scenario.outcome is None else f"`{first.result['outcome']}` ({first.code})"
    if scenario.outcome == "unavailable":
        outcome += f": {run.shortened(first.result['reason'])}"
    doctor = "<br>".join(run.shortened(line) for line in run.doctor) or "nothing"
    again = f"`{run.again.result['outcome']}`" + (", version 1" if scenario.next_outcome == "unchanged" else "")
    cells = (scenario.fault, scenario.moment, outcome, scenario.lost, again, doctor)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", required=True)
    target = parser.parse_args().write
    rows = []
    with tempfile.TemporaryDirectory() as folder, Servers(Path(folder) / "servers") as servers:
        base = save_taught(Path(folder) / "taught")
        blank_database = make_blank_database(Path(folder) / "blank") / "mlflow.db"
        for scenario in SCENARIOS:
            if reason := cannot_run(scenario, servers):
                raise SystemExit(f"{scenario.key}: {reason}")
            try:
                run = run_scenario(scenario, servers, base, blank_database)
                check(run)
            except AssertionError as error:
                print(f"{scenario.key}: {error}", flush=True)
                continue
            rows.append(row(run))
            print(rows[-1], flush=True)
    if len(rows) < len(SCENARIOS):
        raise SystemExit("not all went as the table says; nothing was written")
    target.write_text(HEAD + "\n".join(rows) + "\n" + TAIL, encoding="utf-8")


if __name__ == "__main__":
    main()
