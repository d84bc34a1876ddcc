"""A Prefect server of this process's own, for commands without a configured one. It ends when this process does."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import IO

from softprompt_core.errors import Unavailable

_PROCESS = Path(__file__).with_name("own_server_process.py")
_ENVIRONMENT = {
    "PREFECT_SERVER_UI_ENABLED": "false",
    # Prefect's own marks of a server that lives as long as a command: it leaves out what only others need.
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
}
_STARTUP_S = 240.0
_ENDING_S = 5.0

_server: OwnServer | None = None


def start(meanwhile: Callable[[], object] = lambda: None) -> None:
    """Start it, unless this process has a server already, and return when it answers.

    Called before Prefect is imported, which reads the address from the environment.

    Args:
        meanwhile: what can be done while it starts.

    Raises:
        Unavailable: it ends or does not answer within four minutes.
    """
    global _server
    if _server is not None or _has_address():
        meanwhile()
        return
    with _tables_made_once(Path(os.environ["PREFECT_HOME"])):
        _server = OwnServer()
        meanwhile()
        _server.await_start()


def is_lost() -> bool:
    """Whether there was one, and it has ended: it does not come back."""
    return _server is not None and _server.has_ended()


def kill() -> None:
    """End it at once."""
    if _server is not None:
        _server.kill()


class OwnServer:
    """The server's process, in a session of its own: what is sent to this process's group does not reach it.

    Attributes:
        pid: of its process.
    """

    def __init__(self) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (as long as this object)
        # Bound here, so that no other process can take the port before the server listens.
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_PROCESS), str(listener.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[listener.fileno()],
                start_new_session=True,
                env={**os.environ, **_ENVIRONMENT},
            )
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        self.pid = self._process.pid
        os.environ["PREFECT_API_URL"] = self.url
        os.environ["PREFECT_UI_URL"] = ""  # its pages end with this process, so nothing links to them
        # Registered before Prefect registers what it still sends at the end, and so called after that.
        atexit.register(self.stop)

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def await_start(self) -> None:
        import httpx

        do = "try again, or run `prefect server start` and set PREFECT_API_URL"
        last = time.monotonic() + _STARTUP_S
        while time.monotonic() < last:
            if self.has_ended():
                self._errors.seek(0)
                lines = self._errors.read().decode(errors="replace").split("\n")
                why = next((line.strip() for line in reversed(lines) if line.strip()), f"code {self._process.returncode}")
                raise Unavailable(f"Prefect's own server ended while it started: {why}", do=do)
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health", timeout=last - time.monotonic(), trust_env=False).is_success:
                    return
            time.sleep(0.05)
        raise Unavailable(f"Prefect's own server did not start within {_STARTUP_S:.0f} s", do=do)

    def stop(self) -> None:
        """End it as its owner's end would, and wait for that."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_ENDING_S)


def _has_address() -> bool:
    if os.environ.get("PREFECT_API_URL"):
        return True
    if "prefect" not in sys.modules:
        return False
    from prefect.settings import PREFECT_API_URL

    return bool(PREFECT_API_URL.value())


@contextmanager
def _tables_made_once(folder: Path) -> Iterator[None]:
    """Keep other commands of a home out while a server makes the tables of its database: two at once would both try."""
    from filelock import FileLock, Timeout

    made = folder / f"tables-{version('prefect')}"
    if made.exists():
        yield
        return
    lock = FileLock(folder / "tables.lock", timeout=_STARTUP_S)
    with suppress(Timeout):  # then at worst the server says what is wrong
        lock.acquire()
    try:
        yield
        made.touch()
    finally:
        lock.release()
