"""Every task at once, on SQLite and on a real server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from softprompt_core.errors import Outcome
from softprompt_core.registry import (
    Evidence,
    Stores,
    TaskOverview,
    Version,
    experiment_id,
    finish,
    health_notes,
    overview,
    record_decision,
    start_run,
    tags,
)


def task(client: Any, name: str) -> TaskOverview:
    (found,) = [one for one in overview(client) if one.name == name]
    return found


def test_a_task_is_seen_with_its_champion_ledger_and_health(
    client: Any, stores: Stores, name: str, run_id: str, make_version: Callable[..., Version]
) -> None:
    first, second = make_version(), make_version()
    for version, outcome in ((first, Outcome.PROMOTED), (second, Outcome.REJECTED)):
        record_decision(
            *(client, stores),
            name=name,
            version=version.version,
            expected_champion=None if version is first else 1,
            outcome=outcome,
            by="a test",
            reason="as told",
            evidence=Evidence(run_id, "sha"),
        )
    for key, value in {tags.HEALTH: "degraded", tags.HEALTH_REASON: "worse", tags.HEALTH_VERSION: "1"}.items():
        client.set_registered_model_tag(name, key, value)
    found = task(client, name)
    assert [version.version for version in found.versions] == [2, 1]
    assert found.standing is not None and found.standing.champion == 1
    assert found.standing.last_move is not None and found.standing.last_move.candidate == 1
    assert found.health is not None and found.health.about(1) == "degraded"
    assert found.health.about(2) == "degraded (version 1)"
    assert health_notes(client)[name] == found.health


def test_the_newest_run_that_decided_nothing_is_seen_even_of_a_task_without_a_version(
    client: Any, stores: Stores, name: str
) -> None:
    experiment = experiment_id(client, name, stores)
    finish(client, start_run(client, experiment, "old", {tags.TASK: name}), Outcome.UNAVAILABLE, "")
    time.sleep(0.01)  # MLflow counts in milliseconds
    finish(client, start_run(client, experiment, "new", {tags.TASK: name}), Outcome.DIVERGED, "")
    time.sleep(0.01)
    monitored = start_run(client, experiment, "monitor", {tags.TASK: name, tags.KIND: "monitor"})
    client.set_terminated(monitored, "FAILED")
    found = task(client, name)
    assert found.versions == () and found.unfinished is not None
    assert found.unfinished.outcome == "diverged"


def test_a_run_whose_process_is_gone_counts_as_killed(client: Any, stores: Stores, name: str) -> None:
    experiment = experiment_id(client, name, stores)
    run_id = start_run(client, experiment, "alive", {tags.TASK: name})
    found = task(client, name).unfinished
    assert found is not None and found.outcome == "running"
    owner = client.get_run(run_id).data.tags[tags.PROCESS]
    client.set_tag(run_id, tags.PROCESS, json.dumps({**json.loads(owner), "started": "another process of that number"}))
    found = task(client, name).unfinished
    assert found is not None and found.outcome == "killed"


def test_a_damaged_ledger_is_told_and_hides_nothing(client: Any, name: str, make_version: Callable[..., Version]) -> None:
    make_version()
    client.set_registered_model_tag(name, f"{tags.LEDGER_PREFIX}nonsense", "{")
    found = task(client, name)
    assert found.standing is None and "cannot be read" in str(found.trouble)
    assert len(found.versions) == 1


def test_models_of_others_are_left_out(client: Any, name: str) -> None:
    client.create_registered_model(f"{name}-of-others")
    assert f"{name}-of-others" not in [one.name for one in overview(client)]
