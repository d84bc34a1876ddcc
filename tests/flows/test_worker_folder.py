"""A worker in a folder that has packages called ``flows`` and ``tasks`` of its own still runs ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.flows.prefect_setup import ROOT, runs_of, until
from tests.toy_task import write_toy

FOREIGN = "raise RuntimeError('the package of the folder was imported')\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for package in ("flows", "tasks"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(FOREIGN)
    return tmp_path


def test_what_deployments_name_is_ours_whatever_comes_first_on_the_path(folder: Path) -> None:
    code = "import softprompt_worker, flows, tasks; print(softprompt_worker.lifecycle.name, flows.__file__, tasks.__file__)"
    # As Prefect's process worker sets it: the folder before everything else.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["softprompt-lifecycle", str(ROOT / "flows/__init__.py"), str(ROOT / "tasks/__init__.py")], (
        done.stderr
    )


def test_a_run_of_a_process_worker_is_ours(
    prefect_server: None, folder: Path, here: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import PREFECT_API_URL

    spec = write_toy(folder / "specs", "bundled", name="shadowed")
    environments = folder / "deployments" / "environments"
    environments.mkdir(parents=True)
    (environments / "here.yaml").write_text(yaml.safe_dump({"work_pool": {"name": "shadowed"}, "specs": ["specs"]}))
    monkeypatch.chdir(folder)
    code, _, err = here("deploy", "--environment", "here")
    assert code == 0, err
    (folder / "specs" / "train.csv").unlink()  # a run ends at once: nothing has to be trained to see whose flow it is
    code, _, err = here("run", spec, "--deployment")
    assert code == 0, err

    log = folder / "worker.log"
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "shadowed"]
    own: dict[str, Any] = {
        "PREFECT_API_URL": PREFECT_API_URL.value(),
        "PREFECT_HOME": str(folder / "worker"),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PYTHONPATH": str(ROOT),
    }
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **own}, stdout=file, stderr=file, start_new_session=True
        )
    try:
        (run,) = until(lambda: [run for run in runs_of("shadowed") if run.state.is_final()], 300)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(90)
    assert run.state.name == "Invalid" and "train.csv: no such file" in run.state.message, log.read_text()
