"""Servers that can be killed, commands that can be held at a moment, and a disk that can be filled."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from tests.services.mlflow_server import MlflowServer
from tests.services.postgres import Postgres
from tests.services.prefect_server import PrefectServer
from tests.services.s3 import S3
from tests.services.service import Service

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120


def until(condition: Callable[[], Any], what: str) -> Any:
    last = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < last, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.05)
    return found


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """What ``--json`` printed about the one task."""
        (found,) = json.loads(self.out)
        return found


class Commands:
    """Starts ``softprompt`` commands through `zygote`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"],
            cwd=ROOT,
            env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, request: Mapping[str, Any]) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return int(json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)


class Worker:
    """``prefect worker start``, with the flow run that it is at work on."""

    def __init__(self, folder: Path, environment: Mapping[str, str], pool: str) -> None:
        with (folder / "worker.log").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool],
                cwd=folder,
                env={**os.environ, **environment, "PYTHONPATH": str(ROOT), "PREFECT_WORKER_QUERY_SECONDS": "1"},
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """SIGKILL for the worker and all that it started, as when its machine is switched off."""
        first = psutil.Process(self._process.pid)
        for process in [*first.children(recursive=True), first]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()


class Command:
    """One command at work."""

    def __init__(
        self,
        commands: Commands,
        folder: Path,
        environment: Mapping[str, str],
        *arguments: str,
        moment: str | None = None,
        here: Path | None = None,
    ) -> None:
        folder.mkdir(parents=True)
        self.folder, self._commands = folder, commands
        request = {
            "folder": str(folder),
            "here": str(here or folder),
            "environment": environment,
            "arguments": arguments,
            "moment": moment,
        }
        self.pid = commands.ask(request)

    def until_held(self) -> Self:
        until(lambda: (self.folder / "held").exists() or not _alive(self.pid), f"held: {self._said()}")
        assert (self.folder / "held").exists(), self._said()
        return self

    def go(self) -> None:
        (self.folder / "go").touch()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def ended(self) -> Ended:
        code = self._commands.ask({"wait": self.pid})
        return Ended(code, *((self.folder / name).read_text(errors="replace") for name in ("out", "err")))

    def _said(self) -> str:
        return (self.folder / "err").read_text(errors="replace")[-3000:] if (self.folder / "err").exists() else "nothing"


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Place:
    """The team's servers: MLflow on PostgreSQL (SQLite where that is absent) with files in S3, and Prefect."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.s3 = S3(folder / "s3")
        self.postgres = Postgres() if Postgres.missing() is None else None
        self.prefect = PrefectServer(folder / "prefect")
        self.mlflow: MlflowServer
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ThreadPoolExecutor() as pool:
            first: list[Service] = [self.prefect, self.s3, *([self.postgres] if self.postgres else [])]
            for service in first:
                self._stack.callback(service.stop)
            # What all commands share is set before Prefect is imported.
            self.shared = shared = {"PREFECT_API_URL": self.prefect.url, "PREFECT_HOME": str(self.folder / "prefect-client")}
            shared |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_CLIENT_MAX_RETRIES": "1"}
            shared |= {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL", "PREFECT_LOGGING_SERVER_LEVEL": "ERROR"}
            shared |= {"MLFLOW_LOGGING_LEVEL": "WARNING", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
            self.commands = Commands(shared)
            self._stack.callback(self.commands.close)
            list(pool.map(lambda service: service.start(), first))
            database = self.postgres.database("mlflow") if self.postgres else f"sqlite:///{self.folder / 'mlflow.db'}"
            self.mlflow = MlflowServer(database, self.s3.bucket("softprompt"), self.folder / "mlflow", self.s3.environment)
            self._stack.callback(self.mlflow.stop)
            self.mlflow.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def service(self, name: str) -> Service:
        found = getattr(self, name)
        assert isinstance(found, Service)
        return found


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A real disk that can be full. Needs the right to mount one; `can_mount` says so."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def can_mount() -> bool:
    return os.geteuid() == 0 and shutil.which("mount") is not None and _mounts()


def _mounts() -> bool:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
        if done.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return done.returncode == 0


def fill(disk: Path) -> Path:
    """Write until nothing more fits; returns the file to delete."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return filler
