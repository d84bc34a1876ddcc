"""Every test runs in an environment of its own: no server, no home folder and no settings of the person who runs it.

Tests run in two processes (``make test``). What takes seconds to make and is only read is made once for both.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

# Read once, when the libraries are imported, so a fixture would come too late.
_FOR_THE_WHOLE_RUN = {
    "HF_HUB_OFFLINE": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Two processes on two cores: more threads would wait for each other.
    "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    "MKL_NUM_THREADS": os.environ.get("MKL_NUM_THREADS", "1"),
}
os.environ.update(_FOR_THE_WHOLE_RUN)

# Ignored where the tests were started by `nohup` or in the background. Commands leave that so, and so does Prefect's worker,
# which ends by interrupting itself.
for _which, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_which) is signal.SIG_IGN:
        signal.signal(_which, _usual)

# Groups that wait long for servers and commands. They begin first: one that begins last would leave the other process idle.
_BEGIN_FIRST = (
    "faults",
    "tests/flows/test_team_profile.py",
    "tests/flows/test_ray.py",
    "tests/ray_pool/test_pool.py",
    "tests/flows/test_ci.py",
    "tests/flows/test_deploying.py",
    "tests/flows/test_promotion_story.py",
    "tests/flows/test_flow.py",
)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a file stay in one process, since they share fixtures, unless a mark says which share a server with others."""
    groups = {}
    for item in items:
        mark = item.get_closest_marker("xdist_group")
        groups[item] = str(mark.args[0]) if mark and mark.args else item.path.relative_to(item.config.rootpath).as_posix()
        if mark is None:
            item.add_marker(pytest.mark.xdist_group(groups[item]))
    first = {group: rank for rank, group in enumerate(_BEGIN_FIRST)}
    items.sort(key=lambda item: first.get(groups[item], len(first)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """pytest-xdist marks the groups in the names of tests. Where that does nothing, each process would start every server."""
    options = session.config.option
    if getattr(options, "loadgroup", False) and session.items and "@" not in session.items[0].nodeid:
        raise pytest.UsageError("this pytest and this pytest-xdist do not keep the tests of a group in one process")


@pytest.fixture(autouse=True)
def isolated_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh SOFTPROMPT_HOME; neither MLflow nor Prefect is told of a server."""
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "SOFTPROMPT_")) or name == "PREFECT_API_URL":
            monkeypatch.delenv(name)
    for name, value in _FOR_THE_WHOLE_RUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SOFTPROMPT_HOME", str(tmp_path / "softprompt-home"))


@pytest.fixture(autouse=True)
def own_signal_handlers() -> Iterator[None]:
    """Commands that run in this process take signals for themselves; pytest has them back after each test."""
    ours = {which: signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for which, handler in ours.items():
        signal.signal(which, handler)


@pytest.fixture(scope="session")
def taught_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny base that a soft prompt can bring to do the toy task."""
    from tests.toy_task import save_taught

    return _once(tmp_path_factory, "taught", save_taught)


@pytest.fixture(scope="session")
def blank_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables and nothing in them, to be copied."""
    from tests.blank_database import make_blank_database

    return _once(tmp_path_factory, "blank", make_blank_database) / "mlflow.db"


def _once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that is made once in a run, by whichever of its processes needs it first."""
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            make(partial)
            partial.rename(folder)
    return folder
