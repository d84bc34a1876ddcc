"""What commands cost around training and scoring, with a running Prefect server and MLflow on SQLite.

They are run as a user runs them, each in a process of its own. Their times are measured from outside; those inside of
``softprompt run`` are of the flow and task runs that Prefect recorded.
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
_WHOLE, _CPU = "whole command", "CPU seconds of the whole command"
# The names of their Prefect tasks. `check` brings torch and the base into memory and tokenizes the rows that `train` then reads.
_STEPS = {"training": ("check", "train"), "scoring": ("evaluate",)}


def orchestration(plan: Plan) -> Section:
    """In one home: the first run, one more by force (the training is found finished), one with nothing to do, and two looks."""
    spec = _ROOT / "deployments" / "demo" / f"{plan.task}.yaml"
    columns = {}
    with tempfile.TemporaryDirectory() as folder, PrefectServer(Path(folder) / "prefect") as server:
        environment = {**os.environ, "SOFTPROMPT_HOME": folder, "PREFECT_API_URL": server.url}
        for name, flags in (("first run", []), ("again, --force", ["--force"])):
            columns[name] = _run(["run", str(spec), "--json", *flags], environment)
        for name, command in (("unchanged", ["run", str(spec)]), *((c, c.split()) for c in ("registry list", "status"))):
            columns[name] = _measured(command, environment)
    parts = list(dict.fromkeys(part for column in columns.values() for part in column))
    rows = [[part, *(f"{column[part]:.2f}" if part in column else "–" for column in columns.values())] for part in parts]
    words = (
        f"Wall seconds of `softprompt run deployments/demo/{spec.name}` three times, and of two commands that only read. "
        "*Around training and scoring* is the command's time "
        "less its tasks `check` (torch, base and tokenized rows come into memory), `train` and `evaluate`. Below it: the other "
        "tasks, the rest of the flow, and what lies before and after the flow, which is imports (MLflow, Prefect; torch comes "
        "with `check`), MLflow's first answer, and the interpreter's end. The first run makes MLflow's tables. What has nothing "
        "to do, or only reads, imports neither Prefect nor MLflow."
    )
    setting = f"{spec.stem}, bundled base"
    around, cpu = "around training and scoring", _CPU
    bounds = [
        Requirement(f"{around}, {name}", columns[name][around], 10, 5, setting, "≤", unit=" s")
        for name in ("first run", "again, --force")
    ]
    bounds += [
        Requirement(f"CPU seconds, {name}", columns[name][cpu], bound, bound, setting, "≤", unit=" s")
        for name, bound in (("unchanged", 2.5), ("registry list", 1), ("status", 1))
    ]
    return Section("Orchestration", words, ["Part", *columns], rows, tuple(bounds))


def _measured(arguments: list[str], environment: Mapping[str, str]) -> dict[str, float]:
    """Wall and CPU seconds of a command."""
    command = [sys.executable, "-m", "flows.cli", *arguments]
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=_ROOT, env=dict(environment), capture_output=True, text=True, timeout=1800)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 20):  # promoted, rejected
        raise RuntimeError(f"{arguments} ended with {done.returncode}:\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}")
    return {_WHOLE: wall, _CPU: after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def _run(arguments: list[str], environment: Mapping[str, str]) -> dict[str, float]:
    """Part → seconds of one lifecycle."""
    import httpx

    measured = _measured(arguments, environment)

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
    return {**parts(measured[_WHOLE], flow["total_run_time"], tasks), _CPU: measured[_CPU]}


def parts(wall: float, flow: float, tasks: Mapping[str, float]) -> dict[str, float]:
    """Split a command's wall seconds into what the table shows; everything below the third line adds up to the third."""
    main_steps = {shown: sum(tasks.get(name, 0.0) for name in names) for shown, names in _STEPS.items()}
    counted = {name for names in _STEPS.values() for name in names}
    others = {f"· {name}": seconds for name, seconds in tasks.items() if name not in counted}
    return {
        _WHOLE: wall,
        **main_steps,
        "around training and scoring": wall - sum(main_steps.values()),
        **others,
        "· rest of the flow": flow - sum(tasks.values()),
        "· before and after the flow": wall - flow,
    }
