"""A command that is held at a moment, and a Prefect worker that can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from tests.faults.moments import Moment
from tests.services.commands import ROOT, Command, Forkserver, until


class HeldCommand(Command):
    """A command that comes to a moment and waits there until it is released."""

    def __init__(
        self, forkserver: Forkserver, folder: Path, environment: Mapping[str, str], *arguments: str, moment: Moment
    ) -> None:
        before = [("tests.faults.moments:hold_at", (moment, str(folder)))]
        super().__init__(forkserver, folder, environment, *arguments, before=before)
        held = folder / "held"
        until(lambda: held.exists() or not self.runs, lambda: f"held: {self.stderr[-3000:]}")
        assert held.exists(), self.stderr[-3000:]
        self._go = folder / "go"

    def release(self) -> None:
        self._go.touch()


class Worker:
    """``prefect worker start``, with the flow run that it executes."""

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
        worker = psutil.Process(self._process.pid)
        for process in [*worker.children(recursive=True), worker]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
