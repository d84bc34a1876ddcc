"""What a lifecycle costs around training and scoring: ``softprompt run`` with a running Prefect server and MLflow on SQLite.

The command is run as a user runs it, in a process of its own. Its wall time is measured from outside; the times inside are
those of the flow and task runs that Prefect recorded.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.page import Requirement, Section
from benchmarks.plan import Plan

_ROOT = Path(__file__).parents[1]
_PATIENCE_S = 120
# The names of their Prefect tasks. `check` brings torch and the base into memory and encodes the rows that `train` then reads.
_STAGES = {"training": ("check", "train"), "scoring": ("evaluate",)}


def orchestration(plan: Plan) -> Section:
    """Three runs in one home: the first, one more by force (training is taken from the cache), and one with nothing to do."""
    spec = _ROOT / "deployments" / "demo" / f"{plan.task}.yaml"
    columns = {}
    with tempfile.TemporaryDirectory() as folder, prefect_server(Path(folder) / "prefect") as address:
        environment = {**os.environ, "SOFTPROMPT_HOME": folder, "PREFECT_API_URL": address}
        for name, flags in (("first run", []), ("again, --force", ["--force"]), ("unchanged", [])):
            columns[name] = _run(spec, flags, environment, address)
    parts = list(dict.fromkeys(part for column in columns.values() for part in column))
    rows = [[part, *(f"{column[part]:.2f}" if part in column else "–" for column in columns.values())] for part in parts]
    words = (
        f"Wall seconds of `softprompt run deployments/demo/{spec.name}`. *Around training and scoring* is the command's time "
        "less its tasks `check` (torch, base and encoded rows come into memory), `train` and `evaluate`. Below it: the other "
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


@contextlib.contextmanager
def prefect_server(home: Path) -> Iterator[str]:
    """A Prefect server of its own on a free port; yields the address of its API, and ends it."""
    import httpx

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home.mkdir(parents=True)
    log = (home / "server.log").open("w")
    environment = {**os.environ, "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "true"}
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}/api"
    try:
        give_up = time.monotonic() + _PATIENCE_S
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{address}/health", timeout=2).is_success:
                    break
            if server.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"Prefect's server did not start:\n{(home / 'server.log').read_text()[-2000:]}")
            time.sleep(0.3)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        log.close()


def _run(spec: Path, flags: list[str], environment: Mapping[str, str], address: str) -> dict[str, float]:
    """Part → seconds of one run of the command."""
    import httpx

    command = [sys.executable, "-m", "flows.cli", "run", str(spec), "--json", *flags]
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=_ROOT, env=dict(environment), capture_output=True, text=True, timeout=1800)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode not in (0, 20):  # promoted, unchanged, rejected
        raise RuntimeError(f"softprompt run ended with {done.returncode}:\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}")

    def newest(kind: str, **wanted: Any) -> list[dict[str, Any]]:
        answer = httpx.post(
            f"{address}/{kind}/filter", json={"sort": "EXPECTED_START_TIME_DESC", "limit": 100, **wanted}, timeout=30
        )
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found

    flow = newest("flow_runs")[0]
    tasks: dict[str, float] = {}
    runs = newest("task_runs", task_runs={"flow_run_id": {"any_": [flow["id"]]}})
    for run in sorted(runs, key=lambda run: run["start_time"] or ""):
        name = run["name"].partition(":")[0].split("-")[0]
        tasks[name] = tasks.get(name, 0.0) + run["total_run_time"]
    return {**parts(wall, flow["total_run_time"], tasks), "CPU seconds of the whole command": cpu}


def parts(wall: float, flow: float, tasks: Mapping[str, float]) -> dict[str, float]:
    """Split a command's wall seconds into what the table shows; everything below the third line adds up to the third."""
    stages = {shown: sum(tasks.get(name, 0.0) for name in names) for shown, names in _STAGES.items()}
    counted = {name for names in _STAGES.values() for name in names}
    others = {f"· {name}": seconds for name, seconds in tasks.items() if name not in counted}
    return {
        "whole command": wall,
        **stages,
        "around training and scoring": wall - sum(stages.values()),
        **others,
        "· rest of the flow": flow - sum(tasks.values()),
        "· before and after the flow": wall - flow,
    }
