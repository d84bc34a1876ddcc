"""A server in processes of its own: started, killed, started again where it was, and stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Self

import httpx

PATIENCE_S = 120
# Settings of the person or the test that starts a server do not reach it; it gets its own.
_FOREIGN = ("AWS_", "MLFLOW_", "PREFECT_", "SOFTPROMPT_")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service(ABC):
    """A server that keeps its files and its ``log`` in ``folder``, and its port over restarts.

    A context manager: it answers when ``with`` begins and has ended when that ends.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.log, self.port = folder, folder / "log", free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def missing(cls) -> str | None:
        """Why it cannot run here; None if it can."""
        return None

    def start(self) -> None:
        """Return when it answers; AssertionError with its log if it ends or does not answer."""
        assert self._process is None, "it is running"
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a group of its own: the server and all its workers
                env={**environment, "DO_NOT_TRACK": "true", **self._environment()},
                **self._popen(),
            )
        give_up = time.monotonic() + PATIENCE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.kill()
                raise AssertionError(f"{type(self).__name__} did not come up\n{self.log.read_text(errors='replace')[-5000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL for all its processes at once, as after a power cut; its files stay."""
        if self._process is None:
            return
        self._signal_group(signal.SIGKILL)
        self._process.wait(20)
        self._process = None
        give_up = time.monotonic() + 20
        while self._listens() and time.monotonic() < give_up:  # workers end a moment later than the one that is waited for
            time.sleep(0.02)

    def stop(self) -> None:
        """End as an operator ends it; killed if that takes longer than 20 s."""
        if self._process is None:
            return
        self._signal_group(self._ending())
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        self.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def _command(self) -> list[str]:
        """The command line that starts it."""

    def _environment(self) -> dict[str, str]:
        return {}

    def _popen(self) -> dict[str, object]:
        """Further arguments of Popen."""
        return {}

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it is ready."""

    def _ending(self) -> signal.Signals:
        return signal.SIGTERM

    def _signal_group(self, which: signal.Signals) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, which)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        except OSError:
            return False


def healthy(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False
