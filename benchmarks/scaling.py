"""Measure what many tasks cost, and write the figures into the page about it.

    python -m benchmarks.scaling [--tasks 1000] [--over-http 100] [--parts sqlite,postgres,schedules] [--write docs/scaling.md]

Registrations on SQLite, on PostgreSQL and through an MLflow server in front of it; ``softprompt status`` and ``softprompt fleet
--dry-run`` over all of them; ``softprompt deploy`` on a Prefect server with its scheduler. Commands are run as users run them.
It takes an hour; with ``--results FILE`` the parts can be measured one by one. ``--write`` replaces what is between the marks
of the page.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.scaling_page import render
from benchmarks.scaling_results import Command, Registered, Results
from tests.services.mlflow_server import MlflowServer
from tests.services.postgres import Postgres
from tests.services.prefect_server import PrefectServer

PARTS = ("sqlite", "postgres", "schedules")

_ROOT = Path(__file__).parents[1]
_WORDS = ("the", "film", "was", "good", "bad", "great", "poor", "story", "and", "acting", "with", "a", "long", "slow", "end")
_WITH_EVIDENCE = 10  # tasks whose reports and figures are written too: seconds each, and always the same
_FEW = 10  # over how many tasks a command is taken to show what it costs to start


@dataclass(frozen=True)
class StoreUnderTest:
    """A store that tasks are registered in.

    Attributes:
        environment: what names it to a command.
        database_bytes: size of its database.
        files: the folder of its artifacts.
    """

    name: str
    environment: Mapping[str, str]
    database_bytes: Callable[[], int]
    files: Path

    def sizes(self) -> tuple[int, int, int]:
        """Bytes of the database, number and bytes of the files."""
        files = [path.stat().st_size for path in self.files.rglob("*") if path.is_file()]
        return self.database_bytes(), len(files), sum(files)


def measure(results: Results, part: str, over_http: int, folder: Path) -> None:
    """Measure one of ``PARTS`` and note it in ``results``."""
    specs = write_specs(folder / "specs", results.tasks)
    results.small = len(write_specs(folder / "few", _FEW))
    if part == "sqlite":
        home = folder / "sqlite"
        size = (home / "mlflow.db").stat
        store = StoreUnderTest("SQLite", {"SOFTPROMPT_HOME": str(home)}, lambda: size().st_size, home / "artifacts")
        _register(results, store, specs, specs)
    elif part == "postgres":
        if missing := Postgres.missing():
            raise SystemExit(f"part postgres: {missing}; leave it out with --parts sqlite,schedules")
        more = write_specs(folder / "more", over_http, first=results.tasks)
        with Postgres() as postgres:
            _on_postgres(results, specs, more, postgres.database("mlflow"), folder)
    else:
        _deploy(results, specs, folder)


def _on_postgres(results: Results, specs: list[Path], more: list[Path], database: str, folder: Path) -> None:
    """All tasks straight into the database; then ``more`` of them through a server that stands on it."""

    def size() -> int:
        import sqlalchemy

        with sqlalchemy.create_engine(database, poolclass=sqlalchemy.NullPool).connect() as connection:
            return int(connection.execute(sqlalchemy.text("select pg_database_size(current_database())")).scalar_one())

    home, served = folder / "postgres", folder / "served"
    environment = {"SOFTPROMPT_HOME": str(home), "MLFLOW_TRACKING_URI": database}
    _register(results, StoreUnderTest("PostgreSQL", environment, size, home / "artifacts"), specs, specs)
    with MlflowServer(database, served, folder / "mlflow") as server:
        environment = {"SOFTPROMPT_HOME": str(folder / "http"), "MLFLOW_TRACKING_URI": server.url}
        _register(results, StoreUnderTest("MLflow server", environment, size, served), more, specs)


def write_specs(folder: Path, count: int, first: int = 0) -> list[Path]:
    """Specs of tasks that differ in name and schedule; they share small data files."""
    source = random.Random(0)
    folder.mkdir(parents=True)
    for split, rows in {"train": 64, "validation": 16, "test": 32}.items():
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["text", "label"])
            texts = (f"{split} {row}: {' '.join(source.choices(_WORDS, k=12))}" for row in range(rows))
            table.writerows([text, ("positive", "negative")[row % 2]] for row, text in enumerate(texts))
    paths = []
    for number in range(first, first + count):
        value = {
            "name": f"task-{number:06d}",
            "base_model": "bundled",
            "data": {
                "source": {"files": {split: f"{split}.csv" for split in ("train", "validation", "test")}},
                "input": "{text}",
                "target": {"column": "label"},
            },
            "prompt": {"length": 20},
            "training": {"max_steps": 2, "eval_every": 1},
            "gates": [{"metric": "accuracy", "at_least": 0.0}],
            "schedule": {"cron": f"{number % 60} {number // 60 % 24} * * {number // 1440 % 7}", "timezone": "UTC"},
        }
        path = folder / f"task-{number:06d}.yaml"
        path.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
        paths.append(path)
    return paths


def _register(results: Results, store: StoreUnderTest, specs: list[Path], listed: list[Path]) -> None:
    """Register all specs, some with their evidence, then run the commands over the tasks of ``listed``."""
    _print(f"{store.name}: {len(specs)} registrations")
    few = specs[: min(_WITH_EVIDENCE, len(specs) // 2)]
    rest = specs[len(few) :]
    environment = store.environment
    _softprompt(environment, "status")  # makes the tables
    sizes = [store.sizes()]
    results.few.setdefault("status", _softprompt(environment, "status", "--json"))  # there is nothing yet
    laps = []
    for part, options in ((few, ["--evidence"]), (rest, [])):
        done = _run([sys.executable, "-m", "benchmarks.registrations", *map(str, part), *options], environment)
        laps.append(json.loads(done.out.splitlines()[-1]))
        sizes.append(store.sizes())
    empty, with_few, with_all = sizes
    with_evidence = [(after - before) / len(few) for before, after in zip(empty, with_few, strict=True)]
    without = [(after - before) / len(rest) for before, after in zip(with_few, with_all, strict=True)]
    results.registered[store.name] = Registered(
        tasks=len(specs),
        seconds=laps[1]["seconds"],
        cpu=laps[1]["cpu"],
        with_evidence=laps[0]["seconds"],
        requests=laps[0]["requests"] / len(few),
        database=without[0],
        files=without[1],
        file_bytes=without[2],
        database_with_evidence=with_evidence[0],
        files_with_evidence=with_evidence[1],
        file_bytes_with_evidence=with_evidence[2],
    )
    _print(f"{store.name}: status and fleet --dry-run")
    results.status[store.name] = _softprompt(environment, "status", "--json")
    folder = listed[0].parent
    if "fleet" not in results.few and results.tasks > results.small:
        results.few["fleet"] = _softprompt(environment, "fleet", str(folder.parent / "few"), "--dry-run", "--json")
    results.fleet[store.name] = _softprompt(environment, "fleet", str(folder), "--dry-run", "--json")
    outcomes = {result["outcome"] for result in json.loads(results.fleet[store.name].out)}
    if outcomes != {"unchanged"}:
        raise RuntimeError(f"fleet --dry-run on {store.name} should have nothing to do, and ended in {outcomes}")


def _deploy(results: Results, specs: list[Path], folder: Path) -> None:
    """Deploy twice; then see what the scheduler makes of all the schedules."""
    import httpx

    _print("deploy")
    home = folder / "prefect"
    file = folder / "environment.yaml"
    file.write_text("work_pool: {name: scaling}\n", encoding="utf-8")
    with PrefectServer(home) as server:
        environment = {"SOFTPROMPT_HOME": str(folder / "deployer"), "PREFECT_API_URL": server.url}
        command = ("deploy", str(specs[0].parent), "--environment", str(file), "--json")
        results.few["deploy"] = _softprompt(environment, "deploy", "few", *command[2:], "--dry-run", cwd=folder)
        began = time.monotonic()
        for name in ("first", "unchanged"):
            results.deploys[name] = _softprompt(environment, *command, cwd=folder)
        _print("scheduler")
        scheduled, last_change = -1, time.monotonic()
        while time.monotonic() - last_change < 90:  # the scheduler looks once a minute
            count = int(httpx.post(f"{server.url}/flow_runs/count", json={}, timeout=60).raise_for_status().json())
            if count != scheduled:
                scheduled, last_change = count, time.monotonic()
            time.sleep(3)
        results.scheduled, results.scheduler_seconds = scheduled, last_change - began
    results.prefect_bytes = sum(path.stat().st_size for path in home.glob("prefect.db*"))


def _softprompt(environment: Mapping[str, str], *arguments: str, cwd: Path = _ROOT) -> Command:
    return _run([sys.executable, "-m", "flows.cli", *arguments], environment, cwd)


def _run(command: list[str], environment: Mapping[str, str], cwd: Path = _ROOT) -> Command:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT_", "SOFTPROMPT_"))}
    began = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        env = {**own, "PYTHONPATH": str(_ROOT), **environment}
        process = subprocess.Popen(command, cwd=cwd, env=env, stdout=out, stderr=err)
        _, state, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(state)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise RuntimeError(f"{command[2:5]} ended with {process.returncode}: {err.read()[-3000:].decode(errors='replace')}")
        return Command(seconds=seconds, cpu=used.ru_utime + used.ru_stime, peak=used.ru_maxrss * 1024, out=out.read().decode())


def _print(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {message} …", file=sys.stderr, flush=True)


def _read(path: Path | None, tasks: int) -> Results:
    if path is None or not path.exists():
        return Results(tasks=tasks)
    results = Results.model_validate_json(path.read_text(encoding="utf-8"))
    if results.tasks != tasks:
        raise SystemExit(f"{path} is about {results.tasks} tasks, not {tasks}")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description="What many tasks cost; see docs/scaling.md."
    )
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--over-http", type=int, default=100, help="registrations through an MLflow server")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of: {', '.join(PARTS)}")
    parser.add_argument("--results", type=Path, help="JSON file; what earlier calls measured is kept there, and shown too")
    parser.add_argument("--write", type=Path, help="page whose measured part is replaced; printed otherwise")
    options = parser.parse_args()
    parts = [part for part in options.parts.split(",") if part]
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    results = _read(options.results, options.tasks)
    for part in parts:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            measure(results, part, options.over_http, Path(folder))
        results.minutes += (time.monotonic() - began) / 60
        if options.results is not None:
            options.results.write_text(results.model_dump_json(), encoding="utf-8")
    text = render(results)
    if options.write is None:
        print(text)
        return
    page = options.write.read_text(encoding="utf-8")
    marks = r"(<!-- measured -->\n).*(<!-- end -->)"
    options.write.write_text(re.sub(marks, lambda m: f"{m[1]}\n{text}\n{m[2]}", page, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
