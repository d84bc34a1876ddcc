"""A blank SQLite record a test, and one real MLflow server a session."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from softprompt_core.registry import Stores, Version, connect, experiment_id, register, start_run

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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder / "artifacts")]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            command,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={
                **os.environ,
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "DO_NOT_TRACK": "true",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            },
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", server, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # its own group: the server and its workers
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(5)


def _wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(240):
        assert server.poll() is None, log.read_text()
        try:
            if httpx.get(url, timeout=1).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.25)
    raise AssertionError(f"the server did not come up\n{log.read_text()}")


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
def race() -> Callable[[list[list[str]]], list[str]]:
    """Start `racer.py` once for each list of arguments, let all go at the same moment, return what each printed last."""

    def run(arguments: list[list[str]]) -> list[str]:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        racers = [
            subprocess.Popen(
                [sys.executable, str(HERE / "racer.py"), *given],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=env,
            )
            for given in arguments
        ]
        try:
            for racer in racers:
                assert racer.stdout.readline() == "ready\n", racer.stderr.read()
            for racer in racers:
                racer.stdin.write("go\n")
                racer.stdin.flush()
            results = [racer.communicate(timeout=120) for racer in racers]
        finally:
            for racer in racers:
                racer.kill()
                racer.wait()
        assert all(racer.returncode == 0 for racer in racers), results
        return [out.strip() for out, _ in results]

    return run
