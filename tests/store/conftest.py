"""A blank SQLite record a test, one MLflow server and one PostgreSQL a session, and a store that an older release made."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from softprompt_core.store.addresses import Addresses
from softprompt_core.store.connection import Store
from softprompt_core.store.registration import PyfuncModel, register
from softprompt_core.store.runs import experiment_id, start_run
from softprompt_core.store.versions import Version
from tests.services.mlflow_server import MlflowServer
from tests.services.postgres import Postgres

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


@pytest.fixture
def sqlite_addresses(tmp_path: Path, blank_database: Path) -> Addresses:
    home = tmp_path / "my home ü"  # a path as people have them
    home.mkdir()
    shutil.copy(blank_database, home / "mlflow.db")
    return Addresses(f"sqlite:///{home / 'mlflow.db'}", None, (home / "artifacts").as_uri(), home)


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
        Store.connect(Addresses(uri, None, None, Path(home)))
        yield uri


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store on SQLite, unless the test is marked with one of ``tests.store.transports``."""
    kind = getattr(request, "param", "sqlite")
    if kind == "sqlite":
        return Store.connect(request.getfixturevalue("sqlite_addresses"))
    # A server chooses where files go.
    artifacts = None if kind == "server" else (tmp_path / "artifacts").as_uri()
    return Store.connect(Addresses(request.getfixturevalue(f"{kind}_uri"), None, artifacts, tmp_path / "home"))


@pytest.fixture
def process_wide(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point what goes through MLflow's process-wide address, `mlflow.pyfunc.load_model` for one, at this test's record."""
    import mlflow

    assert not mlflow.is_tracking_uri_set(), "something in this process has set it"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.addresses.tracking_uri)


@pytest.fixture
def name() -> str:
    """The server's record is shared, so each test has a task of its own."""
    return f"task-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def run_id(store: Store, name: str) -> str:
    return start_run(store, experiment_id(store, name), "a run", {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "trained"
    folder.mkdir()
    (folder / "soft_prompt.safetensors").write_bytes(bytes(range(256)) * 40)
    (folder / "spec.yaml").write_text("name: a task with ü\n", encoding="utf-8")
    return folder


@pytest.fixture
def make_version(store: Store, name: str, run_id: str, folder: Path) -> Callable[..., Version]:
    """Register the next version; arguments replace those of ``register`` and fields of its model."""
    import pandas as pd
    from mlflow.models import infer_signature

    example = pd.DataFrame({"text": ["a row"]})
    signature = infer_signature(example, ["a label"])
    model = PyfuncModel(folder, HERE / "served_model.py", signature, example, ["pandas==3.1.1"])

    def make(**changes) -> Version:
        fields = {key: changes.pop(key) for key in list(changes) if key in PyfuncModel.__dataclass_fields__}
        arguments = {"run_id": run_id, "name": name, "description": "A plain sentence.", "tags": {}, **changes}
        return register(store, replace(model, **fields), **arguments)

    return make


@pytest.fixture
def kept_store(tmp_path: Path) -> Store:
    """The store in ``kept_store``, as an older release left it."""
    home = tmp_path / "kept"
    with tarfile.open(HERE / "kept_store" / "home.tar.gz") as archive:
        archive.extractall(home, filter="data")
    dump = (home / "mlflow.sql").read_text(encoding="utf-8")
    with sqlite3.connect(home / "mlflow.db") as database:
        database.executescript(dump.replace("file:///tmp/kept/home", home.as_uri()))
    return Store.connect(Addresses(f"sqlite:///{home / 'mlflow.db'}", None, (home / "artifacts").as_uri(), home))


@pytest.fixture
def race(tmp_path: Path) -> Callable[..., list[str]]:
    """Run `racer.py`: one process for each list of arguments, all at the same moment; returns the result of each."""

    def run(action: str, tracking_uri: str, racers: list[list], *, shared_home: Path | None = None) -> list[str]:
        home = shared_home or tmp_path / "machines"
        work = {"action": action, "tracking_uri": tracking_uri, "home": str(home), "shared": shared_home is not None}
        return run_script("racer.py", json.dumps({**work, "racers": racers}))

    return run


@pytest.fixture(scope="session")
def run_dying() -> Callable[[Store, list[dict]], list[int]]:
    """Run `dying.py`: one process after the other; returns their exit codes."""
    return lambda store, works: run_script("dying.py", store.addresses.tracking_uri, str(store.home), json.dumps(works))


def run_script(script: str, *arguments: str) -> list:
    """Run a script of this folder; returns the JSON list that it prints last."""
    process = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])
