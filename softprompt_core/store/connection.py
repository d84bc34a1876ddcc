"""``Store``: the record in MLflow, as everything in this library is handed it."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from softprompt_core import settings
from softprompt_core.errors import Unavailable
from softprompt_core.masking import masked
from softprompt_core.store.addresses import Addresses, is_database
from softprompt_core.store.failures import in_brief, is_locked, is_transient, unavailable
from softprompt_core.store.file_lock import locked
from softprompt_core.store.reading import Reader
from softprompt_core.store.reading.client import ClientReader
from softprompt_core.store.reading.sqlite import SqliteReader
from softprompt_core.store.retrying import AnsweredWithErrors, retrying

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")

_SQLITE = "sqlite:///"
ANSWER_S = 10.0  # a server that does not answer for so long counts as down

_MLFLOW_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # MLflow's own defaults block for minutes when the server is down.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    # Otherwise the lock file of whatever project the command runs in becomes part of every version.
    "MLFLOW_LOG_UV_FILES": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # With a tracking server it would print addresses on stdout, where `--json` promises nothing but JSON.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class Store:
    """The record of runs, versions and decisions: a client of MLflow, bound to its addresses.

    Not a dataclass: Prefect searches the fields of those when they are arguments of a task.

    Attributes:
        addresses: where the record is.
        reader: reads models, versions and runs; of MLflow's own SQLite file without importing MLflow.
    """

    def __init__(self, addresses: Addresses, client: MlflowClient | None = None) -> None:
        """``client``: an MLflow client of those addresses; made when it is first needed by default."""
        self.addresses = addresses
        if client is not None:
            self.client = client

    @cached_property
    def client(self) -> MlflowClient:
        """An MLflow client of the addresses. Raises Unavailable as ``connect`` does."""
        return _connected_client(self.addresses, ANSWER_S)

    @cached_property
    def reader(self) -> Reader:
        return ClientReader(self.client)

    @classmethod
    def connect(cls, addresses: Addresses | None = None, answer_s: float = ANSWER_S) -> Store:
        """A store that answers. Makes the tables of an empty database; turns MLflow's telemetry off.

        Args:
            addresses: those of the settings by default.
            answer_s: how long to wait for an answer.

        Raises:
            Unavailable: it does not answer in that time, cannot be written, or is of no kind that MLflow supports.
        """
        addresses = addresses or Addresses.from_settings()
        settings.export()  # log-in and storage keys are read by MLflow itself
        for name, value in _MLFLOW_SETTINGS.items():
            os.environ.setdefault(name, value)
        reader = _sqlite_reader(addresses)
        if reader is None:
            return cls(addresses, _connected_client(addresses, answer_s))
        store = cls(addresses)
        store.reader = reader
        return store

    @property
    def home(self) -> Path:
        return self.addresses.home

    def retry(self, call: Callable[[], T]) -> T:
        """The result of a call that may be repeated, repeated for ``server_wait_s`` seconds while MLflow does not answer.

        Raises:
            Unavailable: it has not answered for so long, or answers the same call with errors again and again.
        """
        try:
            return retrying(settings.current().server_wait_s, stop=AnsweredWithErrors())(call)
        except Exception as error:
            failure = unavailable(error, self.addresses) if is_transient(error) else None
            if failure is None:
                raise
            raise failure from error

    def run_url(self, experiment_id: str, run_id: str) -> str:
        return self.addresses.page(f"experiments/{experiment_id}/runs/{run_id}")

    def model_url(self, name: str) -> str:
        return self.addresses.page(f"models/{name}")

    def version_url(self, name: str, version: int) -> str:
        return self.addresses.page(f"models/{name}/versions/{version}")


def _sqlite_reader(addresses: Addresses) -> Reader | None:
    """A reader of MLflow's SQLite file; None where the record is kept otherwise, or the file has other tables.

    Raises:
        Unavailable: the file cannot be read or written.
    """
    uri = addresses.tracking_uri
    if not uri.startswith(_SQLITE) or "?" in uri or addresses.models_uri != uri:
        return None
    file = Path(uri.removeprefix(_SQLITE))
    try:
        _require_writable(file)
        reader = SqliteReader(file)
        return reader if reader.is_readable() else None
    except (OSError, sqlite3.Error) as error:
        raise _cannot_be_used(error, uri) from None


def _connected_client(addresses: Addresses, answer_s: float) -> MlflowClient:
    from mlflow import MlflowClient

    # It prints a traceback of every error that it then raises.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    uris = tuple(dict.fromkeys((addresses.tracking_uri, addresses.models_uri)))

    def first_answer() -> MlflowClient:
        client = MlflowClient(tracking_uri=addresses.tracking_uri, registry_uri=addresses.models_uri)
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)
        return client

    databases = [uri for uri in uris if is_database(uri)]
    for uri in databases:
        with _unavailable_if_it_fails(uri, answer_s):
            _probe_database(uri, answer_s)
    with _unavailable_if_it_fails(", ".join(uris), answer_s):
        if not databases:
            return _within(answer_s, first_answer)
    # MLflow makes the tables of an empty database without a lock; two processes that start together would both try.
    with locked(addresses, "tables"), _unavailable_if_it_fails(", ".join(uris), answer_s):
        # Making the tables takes seconds on a slow disk, and the databases are known to answer.
        return first_answer() if len(databases) == len(uris) else _within(answer_s, first_answer)


def _probe_database(uri: str, answer_s: float) -> None:
    """Connect once. Left to itself, MLflow tries a dead database ten times, over more than a minute and a half."""
    import sqlalchemy

    url = sqlalchemy.make_url(uri)
    if url.get_backend_name() == "sqlite" and url.database:
        file = Path(url.database)
        file.parent.mkdir(parents=True, exist_ok=True)
        _require_writable(file)
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)

    def query() -> None:
        with engine.connect() as connection:
            # Reads the schema; merely connecting to SQLite would not look into the file.
            sqlalchemy.inspect(connection).get_table_names()

    _within(answer_s, query)


def _require_writable(file: Path) -> None:
    for path in (file.parent, file):
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(f"{path} cannot be written")


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
def _unavailable_if_it_fails(uris: str, answer_s: float) -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except TimeoutError:
        where = f"MLflow at {masked(uris)}"
        raise Unavailable(f"no answer within {answer_s:.0f} s", where=where, do=_advice(uris)) from None
    except ImportError as error:
        do = 'for PostgreSQL write postgresql+psycopg:// and install its driver: pip install "softprompt-lifecycle[postgres]"'
        raise Unavailable(f"a driver is missing: {error}", where=f"MLflow at {masked(uris)}", do=do) from None
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise _cannot_be_used(error, uris) from None


def _cannot_be_used(error: Exception, uris: str) -> Unavailable:
    where = f"MLflow at {masked(uris)}"
    if is_locked(error):
        do = "wait for the process that writes to it, or end it; `fuser` on the file says which it is"
        return Unavailable("the database is locked by another process", where=where, do=do)
    return Unavailable(f"cannot be used: {in_brief(error)}", where=where, do=_advice(uris))


def _advice(uris: str) -> str:
    if uris.startswith("http"):
        return "start the server or correct MLFLOW_TRACKING_URI; for a log-in set MLFLOW_TRACKING_USERNAME and …_PASSWORD"
    if uris.startswith("sqlite"):
        return "make the folder and the file in it writable, or set MLFLOW_TRACKING_URI to another address"
    if is_database(uris):
        return "start the database or correct MLFLOW_TRACKING_URI; for PostgreSQL it begins with postgresql+psycopg://"
    return "set MLFLOW_TRACKING_URI to http(s)://…, sqlite:///… or postgresql+psycopg://…, or unset it for a SQLite file"
