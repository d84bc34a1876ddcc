"""``softprompt status`` and the health lines of ``registry``: on a real record, in this process and as a command of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from softprompt_core.errors import Outcome
from softprompt_core.lifecycle.run import run_task
from softprompt_core.operations.status import next_run
from softprompt_core.store import runs, tags, versions
from softprompt_core.store.addresses import Addresses
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger import recording
from softprompt_core.store.ledger.entries import EvidenceRef
from softprompt_core.store.ledger.recording import NewDecision
from tests.flows.loaded_modules import loaded_by
from tests.toy_task import write_toy

ROOT = Path(__file__).parents[2]
NASTY = '<script>alert("x")<script> & co'
Run = Callable[..., tuple[int, str, str]]


def version(name: str, outcome: Outcome, schedule: str | None = None) -> int:
    """A version with no files, decided about as a lifecycle would."""
    store = Store.connect()
    if store.reader.model(name) is None:
        store.client.create_registered_model(name, tags={tags.TASK: name})
    given = {tags.STATUS: tags.REGISTERED, **({tags.SCHEDULE: schedule} if schedule else {})}
    number = int(store.client.create_model_version(name, "s3://nowhere/x", tags=given).version)
    champion = versions.aliases(store, name).get(tags.CHAMPION)
    recording.record_decision(store, NewDecision(name, number, champion, outcome, "a test", "as told", EvidenceRef("", "")))
    return number


def set_health(name: str, health: str, about: int, reason: str = "accuracy fell") -> None:
    note = {
        tags.HEALTH: health,
        tags.HEALTH_VERSION: str(about),
        tags.HEALTH_REASON: reason,
        tags.HEALTH_AT: "2026-02-03T04:05:06",
    }
    for key, value in note.items():
        Store.connect().client.set_registered_model_tag(name, key, value)


@pytest.fixture
def fleet(empty_home: Path) -> Path:
    """Four tasks: fine, degraded with a version that waits, turned down without a champion, and diverged before any version."""
    version("fine", Outcome.PROMOTED, "30 4 * * 1 Europe/Berlin")
    set_health("fine", "healthy", 1)
    version("waits", Outcome.PROMOTED)
    version("waits", Outcome.AWAITING_APPROVAL)
    set_health("waits", "degraded", 1, NASTY)
    version("weak", Outcome.REJECTED)
    store = Store.connect()
    run = runs.start_run(store, runs.experiment_id(store, "wild"), "wild", {tags.TASK: "wild"})
    runs.finish(store, run, Outcome.DIVERGED, "")
    return empty_home


def test_json_says_how_every_task_stands(fleet: Path, here: Run) -> None:
    code, out, _ = here("status", "--json")
    found = {one["task"]: one for one in json.loads(out)}
    assert code == 0 and list(found) == ["fine", "waits", "weak", "wild"]
    fine, waits, weak, wild = found.values()
    assert (fine["champion"], fine["last_outcome"], fine["health"], fine["attention"]) == (1, "promoted", "healthy", [])
    assert fine["schedule"] == "30 4 * * 1 Europe/Berlin"
    coming = datetime.fromisoformat(fine["next_run"]).astimezone(ZoneInfo("Europe/Berlin"))
    assert (coming.weekday(), coming.hour, coming.minute) == (0, 4, 30)
    assert 0 < (coming - datetime.now(UTC)).total_seconds() <= 7 * 86_400 + 3600
    assert (waits["champion"], waits["pending"], waits["last_outcome"]) == (1, 2, "awaiting_approval")
    assert waits["attention"] == ["version 2 waits for approval", "champion is degraded"]
    assert waits["next_run"] is None
    assert weak["attention"] == ["last lifecycle: rejected", "no champion"]
    assert (wild["champion"], wild["last_outcome"]) == (None, "diverged")
    assert wild["last_url"].startswith("http://127.0.0.1:5000/#/experiments/")
    assert wild["last_url"].endswith("?workflowType=machine_learning")  # or MLflow shows its pages about traces


def test_a_task_tried_again_with_success_is_not_diverged_any_more(fleet: Path, here: Run) -> None:
    version("wild", Outcome.PROMOTED)
    # Decisions are kept to the second; the clock of runs is finer.
    store = Store.connect()
    store.client.set_model_version_tag("wild", "1", tags.DECIDED_AT, datetime.now(UTC).isoformat())
    (found,) = json.loads(here("status", "wild", "--json")[1])
    assert (found["last_outcome"], found["attention"]) == ("promoted", [])


def test_a_champion_moved_by_hand_is_told(fleet: Path, here: Run) -> None:
    Store.connect().client.set_registered_model_alias("waits", tags.CHAMPION, "2")
    code, out, _ = here("status")
    assert code == 0
    assert "! waits: champion was moved by hand: it is version 2, the ledger has version 1" in out
    assert "degraded (version 1)" in out, "the health is about the champion before"


def test_a_model_of_somebody_else_under_a_tasks_name_is_said_and_left_alone(empty_home: Path, here: Run, tmp_path: Path) -> None:
    from flows.doctor import checks

    client = Store.connect().client
    client.create_registered_model("theirs", description="ours since 2020")
    client.create_model_version("theirs", "s3://nowhere/x")
    client.set_registered_model_alias("theirs", tags.CHAMPION, "1")
    note = "registered models that are not of this project, so that no task can have their names: theirs"
    for command in (("status",), ("registry", "list")):
        code, _, err = here(*command)
        assert code == 0 and note in err, command
    code, _, err = here("status", "theirs")
    assert code == 40 and "was not made by this project" in err
    assert [finding.found for finding in checks._mlflow(Store.connect()) if finding.what == "models"] == [note]
    before = client.get_registered_model("theirs")
    result = run_task(write_toy(tmp_path, "bundled", name="theirs"), force=True)
    assert result.outcome is Outcome.INVALID and "task theirs: MLflow has a registered model of this name" in result.reason
    after = client.get_registered_model("theirs")
    assert (after.description, after.tags, after.aliases) == (before.description, before.tags, before.aliases)
    assert [version.version for version in client.search_model_versions("name = 'theirs'")] == [1]
    assert client.get_experiment_by_name("softprompt/theirs") is None
    client.register_prompt("greeting", "Hello {{name}}")
    result = run_task(write_toy(tmp_path, "bundled", name="greeting"))
    assert result.outcome is Outcome.INVALID and "task greeting: MLflow has a prompt of this name" in result.reason


def test_the_table_marks_what_needs_a_look_and_sums_up(fleet: Path, here: Run) -> None:
    out = here("status")[1]
    assert "4 tasks, 2 with a champion, 3 to look at." in out
    lines = {line.split()[1]: line for line in out.splitlines() if line.startswith(" !")}
    assert set(lines) == {"waits", "weak", "wild"}


def test_the_page_escapes_and_needs_nothing_else(fleet: Path, here: Run, tmp_path: Path) -> None:
    store = Store.connect()
    store.client.create_registered_model(NASTY, tags={tags.TASK: NASTY})
    page = tmp_path / "fleet.html"
    code, _, _ = here("status", "--html", page)
    text = page.read_text(encoding="utf-8")
    assert code == 0 and "<script" not in text and "&lt;script&gt;" in text
    assert "src=" not in text and "@import" not in text and "<link" not in text
    # Who needs a look stands first.
    assert text.index(">waits<") < text.index(">fine<")


def test_an_unknown_name_and_an_unwritable_page_are_the_users_mistakes(fleet: Path, here: Run, tmp_path: Path) -> None:
    code, out, err = here("status", "fime")
    assert (code, out) == (40, "") and "fime: MLflow knows no such task" in err
    code, _, err = here("status", "--html", tmp_path / "no folder" / "x.html")
    assert code == 40 and "cannot be written" in err


def test_an_empty_record_is_said(empty_home: Path, here: Run) -> None:
    assert "Nothing is registered yet" in here("status")[1]
    assert json.loads(here("status", "--json")[1]) == []


def test_registry_list_and_show_tell_the_health(fleet: Path, here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = {one["task"]: one["health"] for one in json.loads(here("registry", "list", "--json")[1])}
    assert listed == {"fine": "healthy", "waits": "degraded", "weak": None}
    assert "degraded" in here("registry", "list")[1]
    # The versions of these tests have no files that could be counted.
    monkeypatch.setattr(versions, "version_size_bytes", lambda *_: 0)
    assert "degraded (version 1, 2026-02-03T04:05:06): <script>" in here("registry", "show", "waits")[1]
    assert "not looked at yet" in here("registry", "show", "weak")[1]


def test_of_mlflow_s_own_file_it_loads_no_mlflow(fleet: Path) -> None:
    heavy = {"torch", "transformers", "prefect", "mlflow", "pandas", "sqlalchemy"}
    for command in ("status", "registry list", "registry pending", "registry history waits"):
        assert loaded_by(*command.split(), "--json", among=heavy)[:2] == ([], 0), command


def test_it_asks_little(fleet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # An option in the address: read through MLflow's client, as a server is.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{Addresses.from_settings().tracking_uri}?timeout=30")
    code = """
import sys
from mlflow.store.model_registry import sqlalchemy_store as models
from mlflow.store.tracking import sqlalchemy_store as tracking
asked = []
for kind in (models.SqlAlchemyStore, tracking.SqlAlchemyStore):
    for name in dir(kind):
        if name.startswith(("search_", "get_", "_search_")) and not name.endswith("_uri"):
            def counted(self, *args, _name=name, _call=getattr(kind, name), **kwargs):
                asked.append(_name)
                return _call(self, *args, **kwargs)
            if name in ("search_registered_models", "search_model_versions", "search_runs", "search_experiments",
                        "get_registered_model", "get_model_version", "get_run"):
                setattr(kind, name, counted)
sys.argv = ["softprompt", "status", "--json"]
from flows.cli import main
main_exit = None
try:
    main()
except SystemExit as ended:
    main_exit = ended.code
print(len(asked), asked, main_exit, file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    # Two of them ask whether the store answers; one more task must not cost one more request.
    assert int(done.stderr.strip().splitlines()[-1].split(" ")[0]) <= 8, done.stderr


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("0 3 * * 1 UTC", "2026-01-01T00:00+00:00", "2026-01-05T03:00:00+00:00"),
        ("0 3 * * * Europe/Berlin", "2026-07-01T00:00+00:00", "2026-07-01T03:00:00+02:00"),
        # The hour that the clocks skip and the hour that they repeat.
        ("30 2 * * * Europe/Berlin", "2026-03-28T12:00+00:00", "2026-03-29T03:00:00+02:00"),
        ("30 2 * * * Europe/Berlin", "2026-10-24T12:00+00:00", "2026-10-25T02:30:00+02:00"),
        ("0 0 31 2 * UTC", "2026-01-01T00:00+00:00", None),
        ("0 0 1 1 * Europe/Nowhere", "2026-01-01T00:00+00:00", None),
        ("sometimes UTC", "2026-01-01T00:00+00:00", None),
        ("", "2026-01-01T00:00+00:00", None),
    ],
)
def test_the_next_run_follows_cron_and_time_zone(schedule: str, after: str, expected: str | None) -> None:
    found = next_run(schedule, datetime.fromisoformat(after))
    assert (found.isoformat() if found else None) == expected
