import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from softprompt_core.errors import Outcome, Unavailable
from softprompt_core.registry import Stores, connect, default_stores, masked, stores


def _stores(uri: str, home: Path) -> Stores:
    return Stores(uri, None, None, home)


def test_without_settings_the_record_lies_in_home_whatever_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    found = default_stores(Path("home"))
    assert found == Stores(f"sqlite:///{tmp_path}/home/mlflow.db", None, f"file://{tmp_path}/home/artifacts", tmp_path / "home")


def test_a_server_named_in_the_environment_is_used_and_chooses_where_files_go(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example:5000")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "")
    assert default_stores(tmp_path) == Stores("http://mlflow.example:5000", None, None, tmp_path)


def test_a_database_named_in_the_environment_keeps_files_out_of_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg://u@db/mlflow")
    assert default_stores(tmp_path).artifact_root == (tmp_path / "artifacts").as_uri()


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
        connect(_stores(uri, tmp_path))
    assert time.monotonic() - start < 15
    assert masked(uri) in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.outcome is Outcome.UNAVAILABLE


@pytest.mark.parametrize("scheme", ["http", "postgresql+psycopg"])
def test_a_host_that_takes_the_call_and_says_nothing_is_unavailable(scheme, tmp_path, monkeypatch):
    assert stores.PATIENCE_S < 12
    monkeypatch.setattr(stores, "PATIENCE_S", 1.5)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unavailable, match="no answer"):
        connect(_stores(f"{scheme}://me:s3cret@127.0.0.1:{silent.getsockname()[1]}/x", tmp_path))


def test_a_file_that_is_no_database_is_unavailable_at_once(tmp_path):
    (tmp_path / "mlflow.db").write_text("certainly not a database " * 100)
    start = time.monotonic()
    with pytest.raises(Unavailable, match="not a database"):
        connect(_stores(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path))
    assert time.monotonic() - start < 5


def test_a_home_that_cannot_hold_locks_is_unavailable(sqlite_stores):
    with pytest.raises(Unavailable, match="cannot lock"):
        connect(Stores(sqlite_stores.tracking_uri, None, None, Path("/dev/null/home")))


def test_processes_that_start_together_on_a_fresh_home_all_connect(tmp_path, race):
    home = tmp_path / "fresh"
    uri = f"sqlite:///{home / 'mlflow.db'}"
    assert race("connect", uri, [[], []], shared_home=home) == ["connected"] * 2
    with sqlite3.connect(home / "mlflow.db") as database:
        assert database.execute("select count(*) from experiments").fetchone() == (1,)


def test_the_users_own_settings_win(sqlite_stores, monkeypatch):
    import os

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    connect(sqlite_stores)
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "5"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_importing_the_registry_is_cheap():
    check = "import sys, softprompt_core.registry; print({'mlflow', 'pandas', 'sqlalchemy', 'torch'} & set(sys.modules))"
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", check], cwd=root, capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "set()"
