"""Two workers on this machine: bases stay where they are, the dead are replaced, and every item has one result."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from softprompt_core.errors import Diverged, InvalidInput, SoftpromptError, Unavailable
from tasks.ray_pool import Item, cluster, fan_out
from tests.ray_pool.work import work

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray` is not installed"),
    pytest.mark.timeout(900),  # the first test waits for all the work
]
ITEMS = {
    "first": ("a", ""),
    "second": ("b", ""),
    "third": ("a", ""),
    "fourth": ("b", ""),
    "killed": ("a", "dies once"),
    "killer": ("b", "always dies"),
    "diverged": ("a", "diverges"),
    "mistaken": ("b", "has a mistake"),
    "driver": ("c", "drives"),
}


class Story:
    """All items in one flow run; what they returned and printed."""

    def __init__(self, folder: Path) -> None:
        from prefect import flow, runtime

        from softprompt_core.store.connection import Store

        self.folder, self.store = folder, Store.connect()

        @flow(name="story")
        def run(function: Callable[..., Any], items: Sequence[Item]) -> list[Any]:
            self.flow_run = runtime.flow_run.id
            return fan_out(function, items)

        with (folder / "err").open("w") as err, redirect_stderr(err), (folder / "out").open("w") as out, redirect_stdout(out):
            items = [Item(name, base, (folder, name, how)) for name, (base, how) in ITEMS.items()]
            self.results = dict(zip(ITEMS, run(work, items), strict=True))
        self.out, self.err = (folder / "out").read_text(), (folder / "err").read_text()

    def tries(self, name: str) -> list[int]:
        """The processes that an item was on."""
        return [int(line) for line in (self.folder / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    from prefect.settings import PREFECT_HOME, PREFECT_LOGGING_LEVEL, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    folder = tmp_path_factory.mktemp("ray")
    with pytest.MonkeyPatch.context() as patch, temporary_settings({PREFECT_HOME: folder, PREFECT_LOGGING_LEVEL: "CRITICAL"}):
        patch.setenv("SOFTPROMPT_HOME", str(folder / "home"))
        patch.setenv("SOFTPROMPT_RAY_WORKERS", "2")
        patch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)  # room for two workers on every machine
        with prefect_test_harness(server_startup_timeout=120):
            yield Story(folder)


def test_every_item_has_what_its_work_returned_or_the_error_that_it_ended_with(story: Story) -> None:
    for name in ("first", "second", "third", "fourth", "killed"):
        assert story.results[name][::2] == (name, story.flow_run), "not part of the flow run"
    diverged, mistaken = story.results["diverged"], story.results["mistaken"]
    assert isinstance(diverged, Diverged) and diverged.where == "diverged"
    assert isinstance(mistaken, Unavailable) and "mistaken: LookupError: an error of ours (traceback on stderr)" in str(mistaken)


def test_what_killed_its_process_is_tried_again_in_another_and_given_up_after_five(story: Story) -> None:
    assert len(story.tries("killed")) == 2 and story.results["killed"][1] == story.tries("killed")[1]
    assert len(set(story.tries("killer"))) == 5
    assert "killer: 5 workers died over it, one after the other" in str(story.results["killer"])
    assert story.err.count("killed: its worker died; it goes on from its last checkpoint") == 1


def test_what_a_dead_worker_left_open_is_closed(story: Story) -> None:
    from prefect.client.orchestration import get_client

    experiment = story.store.client.get_experiment_by_name("softprompt/killed").experiment_id
    assert [run.info.status for run in story.store.client.search_runs([experiment])] == ["KILLED"]
    with get_client(sync_client=True) as client:
        states = [run.state_name for run in client.read_flow_runs() if run.state_name not in ("Completed", "Running")]
    assert states == ["Crashed"]


def test_workers_share_bases_out_and_stay_with_theirs(story: Story) -> None:
    assert story.tries("first") == story.tries("third") and story.tries("second") == story.tries("fourth")
    assert story.tries("first") != story.tries("second")


def test_a_worker_that_is_a_driver_takes_part(story: Story) -> None:
    driven, process, _ = story.results["driver"]
    assert [result[::2] for result in driven] == [(f"driver {number}", story.flow_run) for number in (1, 2, 3)]
    assert process in [each for _, each, _ in driven]


def test_progress_goes_to_stderr_and_each_worker_is_told_of_once(story: Story) -> None:
    assert story.out == ""
    summaries = re.findall(r"worker .* process \d+: items \d+, bases loaded \d+", story.err)
    assert summaries and len(summaries) == len(set(summaries))


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InvalidInput, match=r"softprompt-lifecycle\[ray\]"):
        fan_out(print, [Item("one", "a", ())])


def test_a_cluster_that_does_not_answer_is_unavailable_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(Unavailable, match=r"RAY_ADDRESS 127.0.0.1:1: Ray cannot be used.*refused"), cluster.connected():
        pass


@pytest.mark.parametrize(
    ("worker", "node", "workers"),
    [
        ({"CPU": 1, "GPU": 0}, {"CPU": 4.0}, 4),
        ({"CPU": 8, "GPU": 1}, {"CPU": 32.0, "GPU": 2.0}, 2),
        ({"CPU": 8, "GPU": 1}, {"CPU": 8.0, "GPU": 2.0}, 1),
        ({"CPU": 2, "GPU": 0.5}, {"CPU": 32.0, "GPU": 2.0}, 4),
        ({"CPU": 2, "GPU": 2}, {"CPU": 32.0, "GPU": 5.0}, 2),
        ({"CPU": 1, "GPU": 1}, {"CPU": 32.0}, 0),
        ({"CPU": 1, "GPU": 0}, {}, 0),
    ],
)
def test_how_many_workers_a_node_has_room_for(worker: dict[str, float], node: dict[str, float], workers: int) -> None:
    if workers:
        assert cluster.room(worker, [node, {}]) == workers
        return
    with pytest.raises(SoftpromptError, match=r"no node of the Ray cluster has .* core\(s\) and .* GPU\(s\); there are "):
        cluster.room(worker, [node])
