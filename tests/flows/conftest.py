"""One Prefect server and one home for all flow tests; starting and making them takes seconds."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.services.team import Team


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    from prefect.settings import PREFECT_HOME, PREFECT_LOCAL_STORAGE_PATH, PREFECT_LOGGING_LEVEL, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    home = tmp_path_factory.mktemp("prefect")
    # Cached results too must stay out of the home of the person who runs this.
    settings = {PREFECT_HOME: home, PREFECT_LOCAL_STORAGE_PATH: home / "storage", PREFECT_LOGGING_LEVEL: "CRITICAL"}
    with temporary_settings(settings), prefect_test_harness(server_startup_timeout=400):
        yield


@pytest.fixture(scope="session")
def flow_home(tmp_path_factory: pytest.TempPathFactory, blank_database: Path) -> Path:
    """SOFTPROMPT_HOME of the lifecycles that tests look at; every test that runs one uses a task name of its own."""
    home = tmp_path_factory.mktemp("flows") / "home"
    home.mkdir()
    shutil.copy(blank_database, home)
    return home


@pytest.fixture
def empty_home(tmp_path: Path, blank_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SOFTPROMPT_HOME with an empty record, for one test."""
    home = tmp_path / "empty home"
    home.mkdir()
    shutil.copy(blank_database, home)
    monkeypatch.setenv("SOFTPROMPT_HOME", str(home))
    return home


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process: exit code, stdout, stderr."""
    from flows.cli import main

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["softprompt", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return run


@pytest.fixture(scope="session")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """The team profile's servers; every test that writes uses a task name of its own."""
    if reason := Team.missing():
        pytest.skip(reason)
    with Team(tmp_path_factory.mktemp("team")) as team:
        yield team
