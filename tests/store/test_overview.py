"""Every task at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from softprompt_core.errors import Outcome
from softprompt_core.store import tags
from softprompt_core.store.connection import Store
from softprompt_core.store.overview import TaskOverview, health_notes, overview
from softprompt_core.store.runs import experiment_id, finish, start_run
from softprompt_core.store.versions import Version
from tests.store.ledgers import decide


def task(store: Store, name: str) -> TaskOverview:
    (result,) = [task for task in overview(store) if task.name == name]
    return result


def test_a_task_is_seen_with_its_champion_ledger_and_health(
    store: Store, name: str, make_version: Callable[..., Version]
) -> None:
    first, second = make_version(), make_version()
    for version, outcome in ((first, Outcome.PROMOTED), (second, Outcome.REJECTED)):
        expected = None if version is first else 1
        decide(store, name, version.version, expected, outcome)
    for key, value in {tags.HEALTH: "degraded", tags.HEALTH_REASON: "worse", tags.HEALTH_VERSION: "1"}.items():
        store.client.set_registered_model_tag(name, key, value)
    result = task(store, name)
    assert [version.version for version in result.versions] == [2, 1]
    assert result.state is not None and result.state.champion == 1
    assert result.state.last_move is not None and result.state.last_move.candidate == 1
    assert result.health is not None and result.health.about(1) == "degraded"
    assert result.health.about(2) == "degraded (version 1)"
    assert health_notes(store)[name] == result.health


def test_the_newest_run_that_decided_nothing_is_seen_even_of_a_task_without_a_version(store: Store, name: str) -> None:
    experiment = experiment_id(store, name)
    finish(store, start_run(store, experiment, "old", {tags.TASK: name}), Outcome.UNAVAILABLE, "")
    time.sleep(0.002)  # MLflow counts in milliseconds
    finish(store, start_run(store, experiment, "new", {tags.TASK: name}), Outcome.DIVERGED, "")
    time.sleep(0.002)
    monitored = start_run(store, experiment, "monitor", {tags.TASK: name, tags.KIND: "monitor"})
    store.client.set_terminated(monitored, "FAILED")
    result = task(store, name)
    assert result.versions == () and result.unfinished is not None
    assert result.unfinished.outcome == "diverged"


def test_a_run_whose_process_is_gone_counts_as_killed(store: Store, name: str) -> None:
    experiment = experiment_id(store, name)
    run_id = start_run(store, experiment, "alive", {tags.TASK: name})
    result = task(store, name).unfinished
    assert result is not None and result.outcome == "running"
    owner = store.client.get_run(run_id).data.tags[tags.PROCESS]
    store.client.set_tag(run_id, tags.PROCESS, json.dumps({**json.loads(owner), "started": "1"}))
    result = task(store, name).unfinished
    assert result is not None and result.outcome == "killed"


def test_a_damaged_ledger_is_told_and_hides_nothing(store: Store, name: str, make_version: Callable[..., Version]) -> None:
    make_version()
    store.client.set_registered_model_tag(name, f"{tags.LEDGER_PREFIX}nonsense", "{")
    result = task(store, name)
    assert result.state is None and "cannot be read" in str(result.ledger_error)
    assert len(result.versions) == 1


def test_models_of_others_are_left_out(store: Store, name: str) -> None:
    store.client.create_registered_model(f"{name}-of-others")
    assert f"{name}-of-others" not in [task.name for task in overview(store)]
