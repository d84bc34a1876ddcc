"""What a worker must find in its place before it touches anything, and what it is told."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from softprompt_core import settings
from softprompt_core.errors import InvalidInput, Unavailable
from softprompt_core.fingerprint import library_fingerprint
from tasks.fan_out import Item, cluster, fan_out
from tasks.fan_out.worker import Place, settle_in, travelling


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
def place(tmp_path: Path) -> Place:
    token = tmp_path / "home" / "ray" / "token"
    token.parent.mkdir(parents=True)
    token.touch()
    return Place(
        environment={"SOFTPROMPT_HOME": str(tmp_path / "home"), "MLFLOW_TRACKING_URI": "http://mlflow"},
        folder=str(tmp_path),
        token=str(token),
        library=library_fingerprint(),
        host=socket.gethostname(),
        lonely=None,
        threads=1,
    )


def test_a_worker_has_the_drivers_settings_and_none_of_its_own(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTPROMPT_CACHE_BYTES", "7")
    settle_in(place)
    found = settings.current()
    assert (found.mlflow_tracking_uri, found.cache_bytes) == (
        "http://mlflow",
        settings.Settings.model_fields["cache_bytes"].default,
    )
    assert Path.cwd() == Path(place.folder)


def test_storage_that_is_not_shared_is_refused(place: Place) -> None:
    with pytest.raises(Unavailable, match=r"does not see the folder of .*\n.*same path"):
        settle_in(replace(place, token="/nowhere/home/ray/token"))


def test_a_sqlite_record_stays_on_its_machine(place: Place) -> None:
    alone = replace(place, lonely="MLflow's record is a SQLite file, which several machines cannot write safely")
    settle_in(alone)
    with pytest.raises(Unavailable, match=r"SQLite file.*\n.*MLFLOW_TRACKING_URI"):
        settle_in(replace(alone, host="another-machine"))


def test_other_code_is_refused(place: Place) -> None:
    with pytest.raises(Unavailable, match="another softprompt_core"):
        settle_in(replace(place, library="0" * 64))


def test_the_settings_file_stays_behind_and_strangers_are_not_told() -> None:
    environment = {"SOFTPROMPT_CONFIG": "/x.toml", "SOFTPROMPT_PROFILE": "mine", "SOFTPROMPT_CACHE_BYTES": "1", "HOME": "/root"}
    environment |= {"PREFECT_API_URL": "http://p/api", "AWS_ACCESS_KEY_ID": "k", "AWS_PROFILE": "mine"}
    assert travelling(environment, {"AWS_ACCESS_KEY_ID"}) == {
        "SOFTPROMPT_CACHE_BYTES": "1",
        "PREFECT_API_URL": "http://p/api",
        "AWS_ACCESS_KEY_ID": "k",
    }


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prefect_ray", None)
    with pytest.raises(InvalidInput, match=r"softprompt-lifecycle\[ray\]"):
        fan_out(print, [Item("one", "a", ())])


def test_a_cluster_that_does_not_answer_is_unavailable_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(Unavailable, match=r"RAY_ADDRESS 127.0.0.1:1: Ray cannot be used.*refused"), cluster.connected():
        pass


@pytest.mark.parametrize(
    ("share", "node", "workers"),
    [
        (cluster.Share(1, 0), {"CPU": 4.0}, 4),
        (cluster.Share(8, 1), {"CPU": 32.0, "GPU": 2.0}, 2),
        (cluster.Share(8, 1), {"CPU": 8.0, "GPU": 2.0}, 1),
        (cluster.Share(2, 0.5), {"CPU": 32.0, "GPU": 2.0}, 4),
        (cluster.Share(2, 2), {"CPU": 32.0, "GPU": 5.0}, 2),
        (cluster.Share(1, 1), {"CPU": 32.0}, 0),
        (cluster.Share(1, 0), {}, 0),
    ],
)
def test_how_many_workers_a_node_has_room_for(share: cluster.Share, node: dict[str, float], workers: int) -> None:
    assert share.fits(node) == workers
