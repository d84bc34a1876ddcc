"""Every test runs in an environment of its own: no server, no home folder and no settings of the person who runs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Read once, when the libraries are imported, so a fixture would come too late.
_FOR_THE_WHOLE_RUN = {
    "HF_HUB_OFFLINE": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # The number of threads decides the order of sums, and so the last digits of every result.
    "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
    "MKL_NUM_THREADS": os.environ.get("MKL_NUM_THREADS", "2"),
}
os.environ.update(_FOR_THE_WHOLE_RUN)


@pytest.fixture(autouse=True)
def isolated_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh SOFTPROMPT_HOME; neither MLflow nor Prefect is told of a server."""
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "SOFTPROMPT_")) or name == "PREFECT_API_URL":
            monkeypatch.delenv(name)
    for name, value in _FOR_THE_WHOLE_RUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SOFTPROMPT_HOME", str(tmp_path / "softprompt-home"))


@pytest.fixture(scope="session")
def taught_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny base that a soft prompt can bring to do the toy task; made once a run."""
    from tests.toy_task import save_taught

    return save_taught(tmp_path_factory.mktemp("bases") / "taught")
