import errno
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from softprompt_core.errors import Outcome, Unavailable
from softprompt_core.masking import masked
from softprompt_core.store.addresses import Addresses
from softprompt_core.store.connection import ANSWER_S, Store
from softprompt_core.store.failures import is_transient, unavailable
from tests.store.transports import on_sqlite_and_server


def test_without_settings_the_record_lies_in_home_whatever_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SOFTPROMPT_HOME", "home")
    monkeypatch.chdir(tmp_path)
    addresses = Addresses(f"sqlite:///{tmp_path}/home/mlflow.db", None, f"file://{tmp_path}/home/artifacts", tmp_path / "home")
    assert Addresses.from_settings() == addresses


def test_a_server_named_in_the_environment_is_used_and_chooses_where_files_go(tmp_path, monkeypatch):
    monkeypatch.setenv("SOFTPROMPT_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example:5000")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "")
    assert Addresses.from_settings() == Addresses("http://mlflow.example:5000", None, None, tmp_path)


def test_a_database_named_in_the_environment_keeps_files_out_of_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SOFTPROMPT_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg://u@db/mlflow")
    assert Addresses.from_settings().artifact_root == (tmp_path / "artifacts").as_uri()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql+psycopg://me:s3cret@db:5432/mlflow", "postgresql+psycopg://me:***@db:5432/mlflow"),
        ("https://me:p@ss:word@host/x", "https://me:***@host/x"),
        ("postgresql://db/x?user=me&password=s3cret&a=b", "postgresql://db/x?user=me&password=***&a=b"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("at http://a:b@c/ and http://d:e@f/", "at http://a:***@c/ and http://d:***@f/"),
    ],
)
def test_passwords_are_never_shown(address, shown):
    assert masked(address) == shown


@pytest.mark.parametrize(
    ("uri", "advice"),
    [
        ("http://127.0.0.1:9", "start the server"),
        ("http://127.0.0.1:nonsense", "start the server"),
        ("postgresql+psycopg://me:s3cret@127.0.0.1:9/mlflow", "start the database"),
        ("postgresql://me:s3cret@127.0.0.1:9/mlflow", r"postgresql\+psycopg://"),
        ("sqlite:////dev/null/below/a/file/mlflow.db", "make the folder"),
        ("sqlite:////proc/mlflow.db", "make the folder"),
        ("gopher://somewhere", "set MLFLOW_TRACKING_URI"),
        ("/some/folder", "set MLFLOW_TRACKING_URI"),
    ],
)
def test_a_store_that_cannot_be_used_is_unavailable_within_15_seconds(uri, advice, tmp_path):
    start = time.monotonic()
    with pytest.raises(Unavailable, match=advice) as caught:
        Store.connect(Addresses(uri, None, None, tmp_path))
    assert time.monotonic() - start < 15
    assert masked(uri) in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.outcome is Outcome.UNAVAILABLE


@pytest.mark.parametrize("scheme", ["http", "postgresql+psycopg"])
def test_a_host_that_takes_the_call_and_says_nothing_is_unavailable(scheme, tmp_path):
    assert ANSWER_S < 12
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unavailable, match="no answer"):
        uri = f"{scheme}://me:s3cret@127.0.0.1:{silent.getsockname()[1]}/x"
        Store.connect(Addresses(uri, None, None, tmp_path), answer_s=1.5)


def test_a_file_that_is_no_database_is_unavailable_at_once(tmp_path):
    (tmp_path / "mlflow.db").write_text("certainly not a database " * 100)
    start = time.monotonic()
    with pytest.raises(Unavailable, match="not a database"):
        Store.connect(Addresses(f"sqlite:///{tmp_path / 'mlflow.db'}", None, None, tmp_path))
    assert time.monotonic() - start < 5


def test_a_locked_database_is_told_as_what_it_is(tmp_path):
    file = tmp_path / "mlflow.db"
    writing = sqlite3.connect(file, isolation_level=None)
    writing.execute("create table something (a)")
    writing.execute("begin exclusive")
    with pytest.raises(Unavailable, match="locked by another process") as caught:
        Store.connect(Addresses(f"sqlite:///{file}", None, None, tmp_path))
    writing.close()
    assert "writable" not in str(caught.value) and "wait for the process" in str(caught.value)


def test_what_cannot_be_written_is_told_with_its_place_and_not_tried_again(tmp_path):
    addresses = Addresses(f"sqlite:///{tmp_path / 'mlflow.db'}", None, None, tmp_path)
    sqlite3.connect(tmp_path / "mlflow.db").execute("create table something (a)")
    engine = sqlalchemy.create_engine(f"sqlite:///file:{tmp_path / 'mlflow.db'}?mode=ro&uri=true")
    with pytest.raises(sqlalchemy.exc.OperationalError) as database, engine.begin() as connection:
        connection.execute(sqlalchemy.text("insert into something values (1)"))
    errors = {
        "readonly database": database.value,
        "/srv/artifacts/3": PermissionError(errno.EACCES, "Permission denied", "/srv/artifacts/3"),
        "Read-only file system": OSError(errno.EROFS, "Read-only file system", "/srv/artifacts/3"),
    }
    for words, error in errors.items():
        told = unavailable(error, addresses)
        assert told is not None and words in str(told) and "cannot be written" in str(told) and "start it" not in str(told)
        assert not is_transient(error)


def test_a_home_that_cannot_hold_locks_is_unavailable(sqlite_addresses):
    with pytest.raises(Unavailable, match="cannot lock"):
        _ = Store.connect(Addresses(sqlite_addresses.tracking_uri, None, None, Path("/dev/null/home"))).client


def test_processes_that_start_together_on_a_fresh_home_all_connect(tmp_path, race):
    home = tmp_path / "fresh"
    uri = f"sqlite:///{home / 'mlflow.db'}"
    assert race("connect", uri, [[], []], shared_home=home) == ["connected"] * 2
    with sqlite3.connect(home / "mlflow.db") as database:
        assert database.execute("select count(*) from experiments").fetchone() == (1,)


@on_sqlite_and_server
def test_a_call_is_repeated_while_the_store_does_not_answer_and_other_errors_are_raised_at_once(store):
    calls = []

    def fails_once():
        calls.append(1)
        if len(calls) == 1:
            MlflowClient("http://127.0.0.1:9").get_run("0" * 32)
        return store.client.search_experiments(max_results=1)

    assert store.retry(fails_once) is not None and len(calls) == 2
    began = time.monotonic()
    with pytest.raises(MlflowException, match="0000"):
        store.retry(lambda: store.client.get_run("0" * 32))
    assert time.monotonic() - began < 1


def test_a_store_that_answers_the_same_call_with_errors_again_and_again_is_unavailable(store, failing_server):
    client = MlflowClient(failing_server.url)
    with pytest.raises(Unavailable, match="stopped answering: INTERNAL_ERROR: broken"):
        store.retry(lambda: client.get_run("0" * 32))
    assert failing_server.requests == 4


@pytest.fixture
def failing_server(monkeypatch):
    """Answers every request with an error of MLflow's, and counts them."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests += 1
            self.send_response(400)  # with 500 the client would not hand the answer on
            self.end_headers()
            self.wfile.write(b'{"error_code": "INTERNAL_ERROR", "message": "broken"}')

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests, server.url = 0, f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_users_own_settings_win(sqlite_addresses, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    Store.connect(sqlite_addresses)
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "5"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_importing_the_registry_is_cheap():
    check = "import sys, softprompt_core.store; print({'mlflow', 'pandas', 'sqlalchemy', 'torch'} & set(sys.modules))"
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", check], cwd=root, capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "set()"
