"""What a lifecycle costs around training and scoring: ``softprompt run`` with a running Prefect server and MLflow on SQLite.

The command is run as a user runs it, in a process of its own. Its wall time is measured from outside; the times inside are
those of the flow and task runs that Prefect recorded.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.page import Requirement, Section
from benchmarks.plan import Plan
from tests.services.prefect_server import PrefectServer

_ROOT = Path(__file__).parents[1]
# The names of their Prefect tasks. `check` brings torch and the base into memory and tokenizes the rows that `train` then reads.
_STEPS = {"training": ("check", "train"), "scoring": ("evaluate",)}


def orchestration(plan: Plan) -> Section:
    """Three runs in one home: the first, one more by force (the training is found finished), and one with nothing to do."""
    spec = _ROOT / "deployments" / "demo" / f"{plan.task}.yaml"
    columns = {}
    with tempfile.TemporaryDirectory() as folder, PrefectServer(Path(folder) / "prefect") as server:
        environment = {**os.environ, "SOFTPROMPT_HOME": folder, "PREFECT_API_URL": server.url}
        for name, flags in (("first run", []), ("again, --force", ["--force"]), ("unchanged", [])):
            columns[name] = _run(spec, flags, environment)
    parts = list(dict.fromkeys(part for column in columns.values() for part in column))
    rows = [[part, *(f"{column[part]:.2f}" if part in column else "–" for column in columns.values())] for part in parts]
    words = (
        f"Wall seconds of `softprompt run deployments/demo/{spec.name}`. *Around training and scoring* is the command's time "
        "less its tasks `check` (torch, base and tokenized rows come into memory), `train` and `evaluate`. Below it: the other "
        "tasks, the rest of the flow, and what lies before and after the flow, which is imports (MLflow, Prefect; torch comes "
        "with `check`), MLflow's first answer, and the interpreter's end. The first run makes MLflow's tables."
    )
    setting = f"{spec.stem}, bundled base"
    bounds = (
        Requirement(
            f"around training and scoring, {name}", columns[name]["around training and scoring"], 10, 5, setting, "≤", unit=" s"
        )
        for name in ("first run", "again, --force")
    )
    return Section("Orchestration", words, ["Part", *columns], rows, tuple(bounds))


def _run(spec: Path, flags: list[str], environment: Mapping[str, str]) -> dict[str, float]:
    """Part → seconds of one run of the command."""
    import httpx

    command = [sys.executable, "-m", "flows.cli", "run", str(spec), "--json", *flags]
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=_ROOT, env=dict(environment), capture_output=True, text=True, timeout=1800)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode not in (0, 20):  # promoted, unchanged, rejected
        raise RuntimeError(f"softprompt run ended with {done.returncode}:\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}")

    def newest(kind: str, **filters: Any) -> list[dict[str, Any]]:
        answer = httpx.post(
            f"{environment['PREFECT_API_URL']}/{kind}/filter",
            json={"sort": "EXPECTED_START_TIME_DESC", "limit": 100, **filters},
            timeout=30,
        )
        answer.raise_for_status()
        runs: list[dict[str, Any]] = answer.json()
        return runs

    flow = newest("flow_runs")[0]
    tasks: dict[str, float] = {}
    runs = newest("task_runs", task_runs={"flow_run_id": {"any_": [flow["id"]]}})
    for run in sorted(runs, key=lambda run: run["start_time"] or ""):
        name = run["name"].partition(":")[0].split("-")[0]
        tasks[name] = tasks.get(name, 0.0) + run["total_run_time"]
    return {**parts(wall, flow["total_run_time"], tasks), "CPU seconds of the whole command": cpu}


def parts(wall: float, flow: float, tasks: Mapping[str, float]) -> dict[str, float]:
    """Split a command's wall seconds into what the table shows; everything below the third line adds up to the third."""
    main_steps = {shown: sum(tasks.get(name, 0.0) for name in names) for shown, names in _STEPS.items()}
    counted = {name for names in _STEPS.values() for name in names}
    others = {f"· {name}": seconds for name, seconds in tasks.items() if name not in counted}
    return {
        "whole command": wall,
        **main_steps,
        "around training and scoring": wall - sum(main_steps.values()),
        **others,
        "· rest of the flow": flow - sum(tasks.values()),
        "· before and after the flow": wall - flow,
    }
