"""``softprompt`` commands in processes of their own that start without importing anything, and can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

ROOT = Path(__file__).parents[2]
PATIENCE_S = 240
# What commands import sooner or later, some of it where it is first used.
MODULES = (
    "flows.cli",
    "matplotlib.pyplot",
    "mlflow.models",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "sklearn.metrics",
    "softprompt_core.interpretation",
    "softprompt_core.lifecycle.run",
    "softprompt_core.lifecycle.train",
    "softprompt_core.operations.monitor",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
)


def until(condition: Callable[[], Any], what: str | Callable[[], str]) -> Any:
    """What ``condition`` returns, once that is true. Raises AssertionError, which says ``what``, if it takes too long."""
    last = time.monotonic() + PATIENCE_S
    while not (result := condition()):
        if time.monotonic() > last:
            raise AssertionError(f"not within {PATIENCE_S} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.05)
    return result


class Forkserver:
    """Starts commands through ``tests.services.forkserver``, as a context manager.

    Args:
        environment: all of it; what libraries read while they are imported is the same for all commands.
        modules: to import beforehand. Without Prefect: it would not see what a command's own environment says.
    """

    def __init__(self, environment: Mapping[str, str], modules: Sequence[str] = MODULES) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.services.forkserver", *modules],
            cwd=ROOT,
            env={**environment, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)

    def request(self, value: Mapping[str, Any]) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(value), file=self._process.stdin, flush=True)
        return int(json.loads(self._process.stdout.readline()))


@dataclass(frozen=True)
class Ended:
    """A command that has ended: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """What ``--json`` printed about the one task."""
        (result,) = json.loads(self.out)
        return result


class Command:
    """A command that runs. Its output goes to the files ``out`` and ``err`` in a folder of its own."""

    def __init__(
        self,
        forkserver: Forkserver,
        folder: Path,
        environment: Mapping[str, str],
        *arguments: str,
        current_folder: Path | None = None,
        before: Sequence[tuple[str, Sequence[str]]] = (),
    ) -> None:
        """``before``: functions to call in its process first, as ``package.module:name``, each with its arguments."""
        folder.mkdir(parents=True)
        self._folder, self._forkserver = folder, forkserver
        request = {
            "folder": str(folder),
            "current_folder": str(current_folder or folder),
            "environment": environment,
            "arguments": arguments,
            "before": before,
        }
        self.pid = forkserver.request(request)

    @property
    def stderr(self) -> str:
        """What it has printed there until now."""
        file = self._folder / "err"
        return file.read_text(errors="replace") if file.exists() else ""

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        try:
            return psutil.Process(self.pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        except psutil.NoSuchProcess:
            return False

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def ended(self) -> Ended:
        code = self._forkserver.request({"wait": self.pid})
        return Ended(code, (self._folder / "out").read_text(errors="replace"), self.stderr)
