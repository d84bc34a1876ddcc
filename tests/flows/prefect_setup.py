"""A Prefect server of its own for a test, which can be restarted, with workers and commands in processes around it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.services.prefect_server import PrefectServer

ROOT = Path(__file__).parents[2]


class PrefectSetup:
    """A Prefect server that can be restarted, and the environment in which commands and workers find it and the record."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.home = home
        self.server = PrefectServer(folder)
        self.url = self.server.url
        self.environment = {
            **os.environ,
            "PREFECT_HOME": str(folder),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_LOGGING_LEVEL": "WARNING",
            "SOFTPROMPT_HOME": str(home),
            "PYTHONPATH": str(ROOT),
        }
        self.log = folder / "processes.log"
        self.server.start()

    def spawn(self, *arguments: str | Path, **environment: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", *map(str, arguments)]
            env = {**self.environment, **environment}
            return subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT)


def until(condition: Callable[[], Any], seconds: float) -> Any:
    last = time.monotonic() + seconds
    while time.monotonic() < last:
        if result := condition():
            return result
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def flow_run(identifier: str) -> Any:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_flow_run(UUID(identifier.rpartition("/")[2]))


def runs_of(name: str) -> list[Any]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    with get_client(sync_client=True) as client:
        return client.read_flow_runs(deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[name])))


def set_state(run: Any, state: Any, *, force: bool = True) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, state, force=force)


def in_thread(work: Callable[[], None]) -> threading.Thread:
    # Prefect's settings are in the context, which a thread does not take along by itself.
    thread = threading.Thread(target=copy_context().run, args=(work,), daemon=True)
    thread.start()
    return thread


class WaitingCommand:
    """A command in a process of its own that waits for a run."""

    def __init__(self, setup: PrefectSetup, path: Path, *options: str) -> None:
        command = [sys.executable, "-m", "flows.cli", "run", str(path), "--deployment", "--wait", *options]
        self.process = subprocess.Popen(command, cwd=ROOT, env=setup.environment, stderr=subprocess.PIPE, text=True)
        self.output = ""
        self.reader = in_thread(self._read)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.output += line

    def until_output_has(self, words: str, seconds: float) -> None:
        until(lambda: words in self.output, seconds)

    def ended(self) -> tuple[int, str]:
        code = self.process.wait(60)
        self.reader.join()
        return code, self.output

    def interrupt(self, how: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(how)
        return self.ended()
