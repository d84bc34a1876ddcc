"""Where the record is kept, and a client for it that is known to answer."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from softprompt_core import settings
from softprompt_core.errors import Unavailable
from softprompt_core.settings import masked

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")

PATIENCE_S = 10.0  # a store that says nothing for so long counts as down
LOCK_PATIENCE_S = 120.0

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # MLflow's own defaults block for minutes when the server is down.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    # Else the lock file of whatever project the command runs in becomes part of every version.
    "MLFLOW_LOG_UV_FILES": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # With a tracking server it would print addresses on stdout, where `--json` has promised nothing but JSON.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

_SQL = ("sqlite", "postgresql", "mysql", "mssql")


@dataclass(frozen=True)
class Stores:
    """Addresses of the record.

    ``tracking_uri`` holds runs and, unless ``registry_uri`` says otherwise, registered models. ``artifact_root`` (a URI) is where
    files of new experiments go; None leaves that to the server. ``home`` is this project's own folder; it holds the locks.
    """

    tracking_uri: str
    registry_uri: str | None
    artifact_root: str | None
    home: Path

    @property
    def models_uri(self) -> str:
        """Where registered models are."""
        return self.registry_uri or self.tracking_uri


def default_stores(home: Path) -> Stores:
    """The addresses that are set (``softprompt_core.settings``), else a SQLite file and a folder below ``home``."""
    home = home.expanduser().absolute()
    found = settings.current()
    tracking = found.mlflow_tracking_uri or f"sqlite:///{home / 'mlflow.db'}"
    # Behind a database address there is no server to choose a place, and MLflow would take ./mlruns of the current folder.
    root = found.artifact_root or ((home / "artifacts").as_uri() if _is_sql(tracking) else None)
    return Stores(tracking, found.mlflow_registry_uri, root, home)


def connect(stores: Stores) -> MlflowClient:
    """A client of a store that answers. Makes the tables of an empty database; turns MLflow's telemetry off.

    Raises:
        Unavailable: a store does not answer within about ten seconds, cannot be written, or of no kind that MLflow knows.
    """
    settings.export()  # log-in and storage keys are read by MLflow itself
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    # It prints a traceback of every error that it then raises.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    addresses = tuple(dict.fromkeys((stores.tracking_uri, stores.models_uri)))

    def first_answer() -> MlflowClient:
        client = MlflowClient(tracking_uri=stores.tracking_uri, registry_uri=stores.models_uri)
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)
        return client

    databases = [uri for uri in addresses if _is_sql(uri)]
    for uri in databases:
        with _explained(uri):
            _probe_database(uri)
    with _explained(", ".join(addresses)):
        if not databases:
            return _within(PATIENCE_S, first_answer)
    # MLflow makes the tables of an empty database without a lock; two processes that start together would both try.
    with locked(stores, "tables"), _explained(", ".join(addresses)):
        # Making the tables takes seconds on a slow disk, and the databases are known to answer.
        return first_answer() if len(databases) == len(addresses) else _within(PATIENCE_S, first_answer)


@contextmanager
def locked(stores: Stores, what: str, patience_s: float = LOCK_PATIENCE_S) -> Iterator[None]:
    """Keep other threads and processes that share ``home`` out of ``what``. The lock of a process that dies is free again.

    Raises:
        Unavailable: the lock folder cannot be written, or somebody has held the lock for ``patience_s`` seconds.
    """
    from filelock import FileLock, Timeout

    folder = stores.home / "locks"
    digest = sha256(f"{stores.models_uri}\n{what}".encode()).hexdigest()
    path = folder / f"{digest[:32]}.lock"
    lock = FileLock(path, timeout=patience_s)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise Unavailable(
            f"another process has been busy with {what} for {patience_s:.0f} s", where=str(path), do="wait for it, or end it"
        ) from None
    except OSError as error:
        raise Unavailable(
            f"cannot lock {what}: {error}", where=str(path), do="make the folder writable, or choose another home"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _is_sql(uri: str) -> bool:
    return urlsplit(uri).scheme.split("+")[0] in _SQL


def _probe_database(uri: str) -> None:
    """Connect once. Left to itself, MLflow tries a dead database ten times, over more than a minute and a half."""
    import sqlalchemy

    url = sqlalchemy.make_url(uri)
    if url.get_backend_name() == "sqlite" and url.database:
        file = Path(url.database)
        file.parent.mkdir(parents=True, exist_ok=True)
        for path in (file.parent, file):
            if path.exists() and not os.access(path, os.W_OK):
                raise PermissionError(f"{path} cannot be written")
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)

    def query() -> None:
        with engine.connect() as connection:
            # Reads the schema; merely connecting to SQLite would not look into the file.
            sqlalchemy.inspect(connection).get_table_names()

    _within(PATIENCE_S, query)


def _within(seconds: float, call: Callable[[], T]) -> T:
    """The result of ``call``. TimeoutError when it takes longer; it then goes on in a thread that keeps no process alive."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # handed to the caller, whatever it is
            future.set_exception(error)

    threading.Thread(target=work, daemon=True, name="mlflow-answer").start()
    return future.result(timeout=seconds)


@contextmanager
def _explained(addresses: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    from softprompt_core.registry.troubles import first_line

    where, do = f"MLflow at {masked(addresses)}", _advice(addresses)
    try:
        yield
    except TimeoutError:
        raise Unavailable(f"no answer within {PATIENCE_S:.0f} s", where=where, do=do) from None
    except ImportError as error:
        do = 'for PostgreSQL write postgresql+psycopg:// and install its driver: pip install "softprompt-lifecycle[postgres]"'
        raise Unavailable(f"a driver is missing: {error}", where=where, do=do) from None
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise Unavailable(f"cannot be used: {first_line(error)}", where=where, do=do) from None


def _advice(addresses: str) -> str:
    if addresses.startswith("http"):
        return "start the server or correct MLFLOW_TRACKING_URI; for a log-in set MLFLOW_TRACKING_USERNAME and …_PASSWORD"
    if addresses.startswith("sqlite"):
        return "make the folder and the file in it writable, or set MLFLOW_TRACKING_URI to another address"
    if _is_sql(addresses):
        return "start the database or correct MLFLOW_TRACKING_URI; for PostgreSQL it begins with postgresql+psycopg://"
    return "set MLFLOW_TRACKING_URI to http(s)://…, sqlite:///… or postgresql+psycopg://…, or unset it for a SQLite file"
