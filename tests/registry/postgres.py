"""A PostgreSQL server of the tests' own, on a free port of this machine, without its safeguards against power loss."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def missing() -> str | None:
    """Why it cannot run here; None if it can."""
    if _binaries() is None:
        return "PostgreSQL's server is not installed (Debian: apt-get install postgresql)"
    if os.geteuid() == 0 and _account() is None:
        return "PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody`"
    return None


@contextmanager
def running() -> Iterator[str]:
    """Yield the address of an empty database; the cluster is deleted in the end."""
    binaries, account = _binaries(), _account()
    assert binaries is not None
    # Not below pytest's own folder: another user cannot enter that.
    folder = Path(tempfile.mkdtemp(prefix="softprompt-postgres-"))
    data = folder / "data"
    if account:
        os.chown(folder, account.pw_uid, account.pw_gid)
    options = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = None
    try:
        initdb = [binaries / "initdb", "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder, timeout=120, **options)
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off"}
        command = [binaries / "postgres", "-D", data, *(part for k, v in settings.items() for part in ("-c", f"{k}={v}"))]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **options)
        _wait(port, server, folder / "log")
        yield f"postgresql+psycopg://tester@127.0.0.1:{port}/postgres"
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)  # SIGTERM would wait for clients that never hang up
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(5)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(port: int, server: subprocess.Popen, log: Path) -> None:
    import psycopg

    for _ in range(300):
        assert server.poll() is None, log.read_text()
        try:
            psycopg.connect(f"host=127.0.0.1 port={port} user=tester dbname=postgres", connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise AssertionError(f"PostgreSQL did not come up\n{log.read_text()}")


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else None


def _account() -> pwd.struct_passwd | None:
    """Whom to be instead of root; None where the tests do not run as root, or there is nobody."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None
