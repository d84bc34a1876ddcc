"""Monitoring and revalidation as flows, on a real Prefect server: verdicts, events, and the automation that they start."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from softprompt_core.errors import Health, Validity
from softprompt_core.operations.monitor import HealthResult
from softprompt_core.store import run_contents, tags, versions
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger import entries
from tests.tiny_models import save_tiny
from tests.toy_task import rows, write_rows, write_toy

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(autouse=True)
def at_home(flow_home: Path, isolated_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTPROMPT_HOME", str(flow_home))


@pytest.fixture(scope="module")
def watched(prefect_server: None, flow_home: Path, taught_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Spec of a task with a champion."""
    from flows.fleet import run_all

    folder = tmp_path_factory.mktemp("watched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTPROMPT_HOME", str(flow_home))
        path = write_toy(folder, taught_base, name="watched", monitor={"min_rows": 30, "data": "fresh-*.csv"})
        assert run_all([path], force=False)[0].version == 1
    return path


def spoilt(count: int, wrong: int) -> list[dict[str, str]]:
    """Rows of the task, the first ``wrong`` of them with the other label."""
    table = rows(count, seed=77)
    for row in table[:wrong]:
        row["label"] = {"positive": "negative", "negative": "positive"}[row["label"]]
    return table


def look(*targets: str | Path, data: Path | None = None, **settings: Any) -> list[HealthResult]:
    from flows.monitor import run_monitor

    return run_monitor([str(target) for target in targets], [str(data)] if data else [], **settings)


def events_named(name: str) -> list[dict[str, Any]]:
    """Events on the server, newest first. The server writes them down a moment after they arrive."""
    from prefect.client.orchestration import get_client
    from prefect.events.filters import EventFilter, EventNameFilter

    with get_client(sync_client=True) as client:
        asked = {"filter": EventFilter(event=EventNameFilter(name=[name])).model_dump(mode="json"), "limit": 20}
        for _ in range(100):
            found: list[dict[str, Any]] = client._client.post("/events/filter", json=asked).json()["events"]
            if found:
                return found
            time.sleep(0.1)
    return []


def test_a_champion_that_keeps_its_accuracy_is_healthy_and_the_record_says_so(watched: Path, tmp_path: Path) -> None:
    (result,) = look("watched", data=write_rows(tmp_path / "fresh.csv", spoilt(80, 0)))
    assert (result.health, result.version, result.rows, result.exit_code) == (Health.HEALTHY, 1, 80, 0)
    store = Store.connect()
    run = store.client.get_run(str(result.run_id))
    assert run.data.tags[tags.KIND] == "monitor" and run.data.tags[tags.HEALTH] == "healthy"
    assert run.data.metrics["fresh/accuracy"] >= 0.8 and run.info.status == "FINISHED"
    assert run_contents.read_json(store, str(result.run_id), "monitoring/health.json")["health"] == "healthy"
    model = store.client.get_registered_model("watched")
    assert (model.tags[tags.HEALTH], model.tags[tags.HEALTH_VERSION], model.tags[tags.HEALTH_RUN]) == (
        "healthy",
        "1",
        result.run_id,
    )


def test_a_degraded_champion_stays_champion_and_an_event_says_so(watched: Path) -> None:
    write_rows(watched.parent / "fresh-1.csv", spoilt(80, 40))
    before = (versions.aliases(Store.connect(), "watched"), entries.history(Store.connect(), "watched"))

    (result,) = look(watched)  # the spec's own `monitor` section names the rows

    assert (result.health, result.exit_code) == (Health.DEGRADED, 21)
    assert (versions.aliases(Store.connect(), "watched"), entries.history(Store.connect(), "watched")) == before
    (event,) = events_named("softprompt.champion.degraded")
    assert event["resource"]["prefect.resource.id"] == "softprompt.champion.watched"
    assert event["payload"]["version"] == 1 and "lower than" in event["payload"]["reason"]
    assert event["payload"]["spec"] == str(watched)


def test_rows_without_answers_are_compared_by_what_they_look_like(watched: Path, tmp_path: Path) -> None:
    plain = [{"text": row["text"]} for row in spoilt(80, 0)]
    other = [{"text": f"{row['text']} maybe sure question answer world maybe sure"} for row in plain]
    (same,) = look("watched", data=write_rows(tmp_path / "same.csv", plain))
    (shifted,) = look("watched", data=write_rows(tmp_path / "other.csv", other))
    (few,) = look("watched", data=write_rows(tmp_path / "few.csv", plain[:12]))
    assert (same.health, same.labelled) == (Health.HEALTHY, False)
    assert shifted.health is Health.UNKNOWN and "input content has shifted" in shifted.reason
    assert few.health is Health.UNKNOWN and "Only 12 usable fresh rows, 30 needed" in few.reason
    metrics = Store.connect().client.get_run(str(same.run_id)).data.metrics
    assert not [name for name in metrics if name.startswith("fresh/")]  # nobody knows the right answers


def test_a_task_that_cannot_be_checked_does_not_stop_the_others(watched: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "fresh.csv", spoilt(80, 0))
    unknown, fine = look("nobody", "watched", data=data)
    assert (unknown.health, unknown.exit_code) == (Health.UNKNOWN, 40) and "no version is registered" in unknown.reason
    assert fine.health is Health.HEALTHY
    (wrong,) = look("watched", data=data, confidence=2.0)
    assert wrong.exit_code == 40 and "monitor.confidence" in wrong.reason


def test_revalidation_lists_who_holds_and_promotes_nothing(watched: Path, taught_base: Path, tmp_path: Path) -> None:
    from flows.revalidate import run_revalidation

    other = save_tiny(tmp_path / "random", "llama")
    before = versions.aliases(Store.connect(), "watched")
    (same,) = run_revalidation([str(watched)], None, None)
    (changed,) = run_revalidation(["watched"], str(other), None)
    every = {one.task: one.validity for one in run_revalidation([], "bundled", None)}
    (none,) = run_revalidation(["nobody"], None, None)
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "broken.yaml").write_text("name: [")
    (broken,) = run_revalidation([str(tmp_path / "specs")], None, None)
    assert (broken.task, broken.validity) == ("broken", Validity.CANNOT)
    assert (same.validity, same.scored) == (Validity.HOLDS, False)
    assert (changed.validity, changed.scored) == (Validity.FAILS, True) and len(changed.gates) == 3
    assert every["watched"] is Validity.CANNOT
    assert (none.validity, none.reason) == (Validity.CANNOT, "There is no champion.")
    assert versions.aliases(Store.connect(), "watched") == before


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    """Run a command in this process: exit code, and what it printed as JSON."""
    from flows.cli import main

    def run(*arguments: str | Path) -> tuple[int, Any]:
        monkeypatch.setattr(sys, "argv", ["softprompt", *map(str, arguments), "--json"])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), json.loads(capsys.readouterr().out)

    return run


def test_the_commands_print_json_alone_and_exit_by_what_they_found(
    watched: Path, tmp_path: Path, command: Callable[..., tuple[int, Any]]
) -> None:
    fine = write_rows(tmp_path / "fine.csv", spoilt(80, 0))
    bad = write_rows(tmp_path / "bad.csv", spoilt(80, 40))
    code, (found,) = command("monitor", "watched", "--data", fine)
    assert (code, found["health"], found["findings"][0]["what"]) == (0, "healthy", "accuracy")
    assert command("monitor", "watched", "--data", bad)[0] == 21
    assert command("monitor", "watched", "--data", bad, "--margin", "0.9")[0] == 0
    assert command("monitor", "watched", "--data", fine, "--min-rows", "100")[0] == 31
    code, both = command("monitor", "nobody", "watched", "--data", fine)
    assert (code, [one["health"] for one in both]) == (40, ["unknown", "healthy"])
    code, (found,) = command("revalidate", "watched", "--base", "bundled")
    assert (code, found["validity"]) == (31, "cannot")
    assert command("revalidate", watched)[0] == 0
    code, found = command("registry", "compare", "watched", "1", "champion")
    assert (code, found["changed"]["changed"], found["spec"]) == (0, [], {})
