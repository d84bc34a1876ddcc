"""A blank SQLite record a test, and one real MLflow server a session."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from softprompt_core.registry import Stores, Version, connect, experiment_id, register, start_run
from tests.services.mlflow_server import MlflowServer
from tests.services.postgres import Postgres

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def blank_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Making the tables takes seconds, so it is done once and the file is copied."""
    home = tmp_path_factory.mktemp("blank")
    connect(Stores(f"sqlite:///{home / 'mlflow.db'}", None, None, home))
    return home / "mlflow.db"


@pytest.fixture
def sqlite_stores(tmp_path: Path, blank_database: Path) -> Stores:
    home = tmp_path / "my home ü"  # a path as people have them
    home.mkdir()
    shutil.copy(blank_database, home / "mlflow.db")
    return Stores(f"sqlite:///{home / 'mlflow.db'}", None, (home / "artifacts").as_uri(), home)


@pytest.fixture(scope="session")
def server_uri(tmp_path_factory: pytest.TempPathFactory, blank_database: Path) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(blank_database, folder / "mlflow.db")
    with MlflowServer(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts", folder) as server:
        yield server.url


@pytest.fixture(scope="session")
def postgres_uri() -> Iterator[str]:
    """PostgreSQL with MLflow's tables."""
    if reason := Postgres.missing():
        pytest.skip(reason)
    with Postgres() as server, tempfile.TemporaryDirectory() as home:
        uri = server.database("mlflow")
        connect(Stores(uri, None, None, Path(home)))
        yield uri


@pytest.fixture(params=["sqlite", "server", "postgres"])
def any_stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """What a record can be kept in; slower than `stores`, for what depends on the database."""
    if request.param == "sqlite":
        return request.getfixturevalue("sqlite_stores")
    return Stores(request.getfixturevalue(f"{request.param}_uri"), None, (tmp_path / "artifacts").as_uri(), tmp_path / "home")


@pytest.fixture(params=["sqlite", "server"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    if request.param == "sqlite":
        return request.getfixturevalue("sqlite_stores")
    return Stores(request.getfixturevalue("server_uri"), None, None, tmp_path / "home")


@pytest.fixture
def client(stores: Stores):
    return connect(stores)


@pytest.fixture
def process_wide(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point what goes through MLflow's process-wide address, `mlflow.pyfunc.load_model` for one, at this test's record."""
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", stores.tracking_uri)


@pytest.fixture
def name() -> str:
    """The server's record is shared, so each test has a task of its own."""
    return f"task-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def run_id(client, stores: Stores, name: str) -> str:
    return start_run(client, experiment_id(client, name, stores), "a run", {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "trained"
    folder.mkdir()
    (folder / "soft_prompt.safetensors").write_bytes(bytes(range(256)) * 40)
    (folder / "spec.yaml").write_text("name: a task with ü\n", encoding="utf-8")
    return folder


@pytest.fixture
def make_version(client, name: str, run_id: str, folder: Path) -> Callable[..., Version]:
    """Register the next version."""
    import pandas as pd
    from mlflow.models import infer_signature

    example = pd.DataFrame({"text": ["a row"]})

    def make(**changes) -> Version:
        given = {
            "run_id": run_id,
            "name": name,
            "folder": folder,
            "code": HERE / "served_model.py",
            "signature": infer_signature(example, ["a label"]),
            "input_example": example,
            "requirements": ["pandas==3.1.1"],
            "description": "A plain sentence.",
            "tags": {},
        }
        return register(client, **{**given, **changes})

    return make


@pytest.fixture
def race(tmp_path: Path) -> Callable[..., list[str]]:
    """Run `racer.py`: one process for each list of arguments, all at the same moment; returns what came of each."""

    def run(action: str, tracking_uri: str, racers: list[list], *, shared_home: Path | None = None) -> list[str]:
        home = shared_home or tmp_path / "machines"
        work = {"action": action, "tracking_uri": tracking_uri, "home": str(home), "shared": shared_home is not None}
        done = subprocess.run(
            [sys.executable, str(HERE / "racer.py"), json.dumps({**work, "racers": racers})],
            capture_output=True,
            text=True,
            timeout=200,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run
