"""What a worker must find in its place before it touches anything, and what it is told."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from softprompt_core import settings
from softprompt_core.errors import Unavailable
from softprompt_core.fingerprint import library_fingerprint
from tasks.ray_pool import Item
from tasks.ray_pool.worker import Driver, Unfit, Worker, shared_variables


@pytest.fixture(autouse=True)
def environment_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import torch

    before, folder, threads = dict(os.environ), Path.cwd(), torch.get_num_threads()
    yield
    os.environ.clear()
    os.environ.update(before)
    os.chdir(folder)
    torch.set_num_threads(threads)


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    shared = tmp_path / "home" / "ray" / "shared"
    shared.mkdir(parents=True)
    return Driver(
        environment={
            "SOFTPROMPT_HOME": str(tmp_path / "home"),
            "MLFLOW_TRACKING_URI": "http://mlflow",
            "PREFECT_API_URL": "http://prefect/api",
        },
        folder=str(tmp_path),
        shared=str(shared),
        host=socket.gethostname(),
        library=library_fingerprint(),
        flow_run={},
    )


def test_a_worker_has_the_drivers_settings_and_none_of_its_own(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTPROMPT_CACHE_BYTES", "7")
    driver.settle_in()
    current = settings.current()
    assert current.mlflow_tracking_uri == "http://mlflow"
    assert current.cache_bytes == settings.Settings.model_fields["cache_bytes"].default
    assert Path.cwd() == Path(driver.folder)


def test_storage_that_is_not_shared_is_refused(driver: Driver) -> None:
    with pytest.raises(Unavailable, match=r"does not see the folder of .*\n.*same path"):
        replace(driver, shared="/nowhere/home/ray/shared").settle_in()


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "PREFECT_API_URL"])
@pytest.mark.parametrize("address", ["sqlite:////srv/mlflow.db", "http://127.0.0.1:4200/api"])
def test_a_store_of_one_machine_is_used_on_that_machine_only(driver: Driver, variable: str, address: str) -> None:
    local = replace(driver, environment={**driver.environment, variable: address})
    local.settle_in()
    with pytest.raises(Unavailable, match=r"can only be used on another-machine\n.*MLFLOW_TRACKING_URI"):
        replace(local, host="another-machine").settle_in()
    replace(driver, host="another-machine").settle_in()


def test_other_code_is_refused(driver: Driver) -> None:
    with pytest.raises(Unavailable, match="another softprompt_core"):
        replace(driver, library="0" * 64).settle_in()


def test_a_worker_of_no_use_says_why_instead_of_working(driver: Driver) -> None:
    worker = Worker(replace(driver, library="0" * 64))
    assert isinstance(worker.call(print, Item("one", "base", ("no",)), []), Unfit)


def test_the_settings_file_stays_behind_and_strangers_are_not_told() -> None:
    environment = {"SOFTPROMPT_CONFIG": "/x.toml", "SOFTPROMPT_PROFILE": "mine", "SOFTPROMPT_CACHE_BYTES": "1", "HOME": "/root"}
    environment |= {"PREFECT_API_URL": "http://p/api", "AWS_ACCESS_KEY_ID": "k", "AWS_PROFILE": "mine", "RAY_ADDRESS": "auto"}
    assert shared_variables(environment) == {
        "SOFTPROMPT_CACHE_BYTES": "1",
        "PREFECT_API_URL": "http://p/api",
        "AWS_ACCESS_KEY_ID": "k",
    }
