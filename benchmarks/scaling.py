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
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import yaml

from benchmarks.scaling_page import render
from tests.services.mlflow_server import MlflowServer
from tests.services.postgres import Postgres
from tests.services.prefect_server import PrefectServer

PARTS = ("sqlite", "postgres", "schedules")

_ROOT = Path(__file__).parents[1]
_WORDS = ("the", "film", "was", "good", "bad", "great", "poor", "story", "and", "acting", "with", "a", "long", "slow", "end")
_WITH_EVIDENCE = 10  # tasks whose reports and figures are written too: seconds each, and always the same
_FEW = 10  # over how many tasks a command is taken to show what it costs to start


@dataclass(frozen=True)
class Command:
    """One command: seconds, and the peak of its resident memory in bytes."""

    seconds: float
    cpu: float
    peak: int
    out: str


@dataclass(frozen=True)
class Registered:
    """What registrations cost: seconds of every step and CPU seconds of every task; requests, bytes and files of one task."""

    tasks: int
    seconds: Mapping[str, Sequence[float]]
    cpu: Sequence[float]
    with_evidence: Mapping[str, Sequence[float]]
    requests: float
    database: float = 0.0
    files: float = 0.0
    file_bytes: float = 0.0
    database_with_evidence: float = 0.0
    files_with_evidence: float = 0.0
    file_bytes_with_evidence: float = 0.0

    def whole(self, part: slice) -> float:
        """Median seconds of all steps together."""
        return statistics.median(sum(steps) for steps in list(zip(*self.seconds.values(), strict=True))[part])

    @property
    def evidence(self) -> float:
        """Median seconds of the reports, figures and tables of one task."""
        steps = (self.with_evidence[name] for name in ("evidence before", "evidence after"))
        return statistics.median(sum(both) for both in zip(*steps, strict=True))


@dataclass
class Found:
    """Everything that was measured. ``few``: the same command over ``small`` tasks or none, for what it costs to start."""

    tasks: int
    registered: dict[str, Registered] = field(default_factory=dict)
    status: dict[str, Command] = field(default_factory=dict)
    fleet: dict[str, Command] = field(default_factory=dict)
    deploys: dict[str, Command] = field(default_factory=dict)
    few: dict[str, Command] = field(default_factory=dict)
    small: int = 0
    minutes: float = 0.0
    scheduled: int = 0
    scheduler_seconds: float = 0.0
    prefect_bytes: int = 0


def measure(found: Found, part: str, over_http: int, folder: Path) -> None:
    """Measure one of ``PARTS`` and note it in ``found``."""
    specs = write_specs(folder / "specs", found.tasks)
    found.small = len(write_specs(folder / "few", _FEW))
    if part == "sqlite":
        home = folder / "sqlite"
        size = (home / "mlflow.db").stat
        _record(found, "SQLite", specs, {"SOFTPROMPT_HOME": str(home)}, lambda: size().st_size, home / "artifacts")
    elif part == "postgres":
        if missing := Postgres.missing():
            raise SystemExit(f"part postgres: {missing}; leave it out with --parts sqlite,schedules")
        more = write_specs(folder / "more", over_http, first=found.tasks)
        with Postgres() as postgres:
            _on_postgres(found, specs, more, postgres.database("mlflow"), folder)
    else:
        _deploy(found, specs, folder)


def _on_postgres(found: Found, specs: list[Path], more: list[Path], database: str, folder: Path) -> None:
    """All tasks straight into the database; then ``more`` of them through a server that stands on it."""

    def size() -> int:
        import sqlalchemy

        with sqlalchemy.create_engine(database, poolclass=sqlalchemy.NullPool).connect() as connection:
            return int(connection.execute(sqlalchemy.text("select pg_database_size(current_database())")).scalar_one())

    home, served = folder / "postgres", folder / "served"
    environment = {"SOFTPROMPT_HOME": str(home), "MLFLOW_TRACKING_URI": database}
    _record(found, "PostgreSQL", specs, environment, size, home / "artifacts")
    with MlflowServer(database, served, folder / "mlflow") as server:
        environment = {"SOFTPROMPT_HOME": str(folder / "http"), "MLFLOW_TRACKING_URI": server.url}
        _record(found, "MLflow server", more, environment, size, served, asked=specs)


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


def _record(
    found: Found,
    store: str,
    specs: list[Path],
    environment: dict[str, str],
    size: Callable[[], int],
    files: Path,
    asked: list[Path] | None = None,
) -> None:
    """Register all specs, some with their evidence, then ask how ``asked`` (default: the same) stand."""
    _say(f"{store}: {len(specs)} registrations")
    few = specs[: min(_WITH_EVIDENCE, len(specs) // 2)]
    rest = specs[len(few) :]
    _softprompt(environment, "status")  # makes the tables
    sizes = [(size(), *_files(files))]
    found.few.setdefault("status", _softprompt(environment, "status", "--json"))  # there is nothing yet
    laps = []
    for part, options in ((few, ["--evidence"]), (rest, [])):
        done = _run([sys.executable, "-m", "benchmarks.registrations", *map(str, part), *options], environment)
        laps.append(json.loads(done.out.splitlines()[-1]))
        sizes.append((size(), *_files(files)))
    before, full, all_ = sizes
    with_evidence = [(b - a) / len(few) for a, b in zip(before, full, strict=True)]
    without = [(b - a) / len(rest) for a, b in zip(full, all_, strict=True)]
    found.registered[store] = Registered(
        len(specs),
        laps[1]["seconds"],
        laps[1]["cpu"],
        laps[0]["seconds"],
        laps[0]["requests"] / len(few),
        *without,
        *with_evidence,
    )
    _say(f"{store}: status and fleet --dry-run")
    found.status[store] = _softprompt(environment, "status", "--json")
    folder = (asked or specs)[0].parent
    if "fleet" not in found.few and found.tasks > found.small:
        found.few["fleet"] = _softprompt(environment, "fleet", str(folder.parent / "few"), "--dry-run", "--json")
    found.fleet[store] = _softprompt(environment, "fleet", str(folder), "--dry-run", "--json")
    outcomes = {result["outcome"] for result in json.loads(found.fleet[store].out)}
    if outcomes != {"unchanged"}:
        raise RuntimeError(f"fleet --dry-run on {store} should have found nothing to do, and found {outcomes}")


def _deploy(found: Found, specs: list[Path], folder: Path) -> None:
    """Deploy twice; then see what the scheduler makes of all the schedules."""
    import httpx

    _say("deploy")
    place = folder / "prefect"
    file = folder / "environment.yaml"
    file.write_text("work_pool: {name: scaling}\n", encoding="utf-8")
    with PrefectServer(place) as server:
        environment = {"SOFTPROMPT_HOME": str(folder / "deployer"), "PREFECT_API_URL": server.url}
        command = ("deploy", str(specs[0].parent), "--environment", str(file), "--json")
        found.few["deploy"] = _softprompt(environment, "deploy", "few", *command[2:], "--dry-run", cwd=folder)
        began = time.monotonic()
        for name in ("first", "unchanged"):
            found.deploys[name] = _softprompt(environment, *command, cwd=folder)
        _say("scheduler")
        scheduled, still = -1, time.monotonic()
        while time.monotonic() - still < 90:  # the scheduler looks once a minute
            count = int(httpx.post(f"{server.url}/flow_runs/count", json={}, timeout=60).raise_for_status().json())
            if count != scheduled:
                scheduled, still = count, time.monotonic()
            time.sleep(3)
        found.scheduled, found.scheduler_seconds = scheduled, still - began
    found.prefect_bytes = sum(path.stat().st_size for path in place.glob("prefect.db*"))


def _softprompt(environment: Mapping[str, str], *arguments: str, cwd: Path = _ROOT) -> Command:
    return _run([sys.executable, "-m", "flows.cli", *arguments], environment, cwd)


def _run(command: list[str], environment: Mapping[str, str], cwd: Path = _ROOT) -> Command:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT_", "SOFTPROMPT_"))}
    began = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        env = {**ours, "PYTHONPATH": str(_ROOT), **environment}
        process = subprocess.Popen(command, cwd=cwd, env=env, stdout=out, stderr=err)
        _, state, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(state)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise RuntimeError(f"{command[2:5]} ended with {process.returncode}: {err.read()[-3000:].decode(errors='replace')}")
        return Command(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, out.read().decode())


def _files(folder: Path) -> tuple[int, int]:
    """Number and bytes of the files below a folder."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def _say(words: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {words} …", file=sys.stderr, flush=True)


def _read(path: Path | None, tasks: int) -> Found:
    if path is None or not path.exists():
        return Found(tasks)
    value = json.loads(path.read_text(encoding="utf-8"))
    kinds = {"registered": Registered, "status": Command, "fleet": Command, "deploys": Command, "few": Command}
    made = {key: {name: kind(**one) for name, one in value.pop(key).items()} for key, kind in kinds.items()}
    found = Found(**value, **made)
    if found.tasks != tasks:
        raise SystemExit(f"{path} is about {found.tasks} tasks, not {tasks}")
    return found


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
    found = _read(options.results, options.tasks)
    for part in parts:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            measure(found, part, options.over_http, Path(folder))
        found.minutes += (time.monotonic() - began) / 60
        if options.results is not None:
            options.results.write_text(json.dumps(asdict(found)), encoding="utf-8")
    text = render(found)
    if options.write is None:
        print(text)
        return
    page = options.write.read_text(encoding="utf-8")
    marks = r"(<!-- measured -->\n).*(<!-- end -->)"
    options.write.write_text(re.sub(marks, lambda m: f"{m[1]}\n{text}\n{m[2]}", page, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
