"""A PostgreSQL server without its safeguards against power loss."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil

from tests.services.service import Service


class Postgres(Service):
    """One cluster, as many databases as are asked for. Its files are in a folder of its own, which `stop` deletes."""

    def __init__(self) -> None:
        # Not below pytest's own folder: where the tests run as root the server is another user, who cannot enter that.
        super().__init__(Path(tempfile.mkdtemp(prefix="softprompt-postgres-")))
        self._data = self.folder / "data"
        self._options: dict[str, object] = {}
        if account := _account():
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            self._options = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}

    @classmethod
    def missing(cls) -> str | None:
        if _binaries() is None:
            return "PostgreSQL's server is not installed (Debian: apt-get install postgresql)"
        if os.geteuid() == 0 and _account() is None:
            return "PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody`"
        return None

    @property
    def url(self) -> str:
        """Address of the database that every cluster has."""
        return self._address("postgres")

    def database(self, name: str) -> str:
        """Make an empty database if there is none of the name; returns its address."""
        from psycopg import sql

        with self._connect() as connection:
            if not connection.execute("select 1 from pg_database where datname = %s", (name,)).fetchone():
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        return self._address(name)

    def start(self) -> None:
        if not self._data.exists():
            initdb = [self._binary("initdb"), "-D", self._data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
            subprocess.run(initdb, check=True, capture_output=True, cwd=self.folder, timeout=120, **self._options)
        super().start()

    def stop(self) -> None:
        super().stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _address(self, database: str) -> str:
        return f"postgresql+psycopg://tester@127.0.0.1:{self.port}/{database}"

    def _connect(self):
        import psycopg

        return psycopg.connect(f"host=127.0.0.1 port={self.port} user=tester dbname=postgres", connect_timeout=2, autocommit=True)

    def _binary(self, name: str) -> str:
        folder = _binaries()
        assert folder is not None, self.missing()
        return str(folder / name)

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 200,
        }
        parts = (part for name, value in settings.items() for part in ("-c", f"{name}={value}"))
        return [self._binary("postgres"), "-D", str(self._data), *parts]

    def _popen(self) -> dict[str, object]:
        return self._options

    def _answers(self) -> bool:
        import psycopg

        try:
            self._connect().close()
            return True
        except psycopg.OperationalError:
            return False

    def _ending(self) -> signal.Signals:
        return signal.SIGINT  # SIGTERM would wait for clients that never hang up

    def _signal_group(self, which: signal.Signals) -> None:
        assert self._process is not None
        if self._process.poll() is not None:
            return
        if which != signal.SIGKILL:
            self._process.send_signal(which)  # the first process tells the others
            return
        # Each of its processes has a group of its own. The first is halted meanwhile, so that it starts no others.
        first = psutil.Process(self._process.pid)
        first.suspend()
        for process in [*first.children(recursive=True), first]:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _binaries() -> Path | None:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if installed:
        return installed[-1].parent
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else None


def _account() -> pwd.struct_passwd | None:
    """The user to run it as instead of root; None where the tests do not run as root, or there is no such user."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None
