"""``softprompt run --deployment --wait`` against a real Prefect server and a worker process: outcomes, exit codes, reports."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from softprompt_core.store import versions
from softprompt_core.store.connection import Store
from tests.flows.prefect_setup import PrefectSetup, WaitingCommand, end, flow_run, in_thread, runs_of, set_state, until
from tests.toy_task import write_toy

SHORT = {"max_steps": 4, "eval_every": 2, "batch_size": 16}
EASY = [{"metric": "accuracy", "at_least": 0.0}]
IMPOSSIBLE = [{"metric": "accuracy", "at_least": 1.01}]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory, blank_database: Path) -> Iterator[PrefectSetup]:
    from tests.services.prefect_client import prefect_client

    folder = tmp_path_factory.mktemp("ci-prefect")
    home = tmp_path_factory.mktemp("ci") / "home"
    home.mkdir()
    shutil.copy(blank_database, home)
    created = PrefectSetup(folder, home)
    settings = {"PREFECT_HOME": folder, "PREFECT_LOCAL_STORAGE_PATH": folder / "storage", "PREFECT_LOGGING_LEVEL": "CRITICAL"}
    try:
        with prefect_client(created.url, **settings):
            yield created
    finally:
        created.server.stop()


@pytest.fixture(scope="module")
def worker(setup: PrefectSetup) -> Iterator[None]:
    process = setup.spawn("tests.flows.warm_worker")
    yield
    end(process)


@pytest.fixture(autouse=True)
def at_home(setup: PrefectSetup, isolated_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTPROMPT_HOME", str(setup.home))


def deploy(path: Path, *tags: str, **settings: Any) -> None:
    """The deployment of a spec's task; nobody serves it unless it has the tag ``warm``."""
    from flows.lifecycle import lifecycle

    lifecycle.to_deployment(path.stem, parameters={"spec": str(path)}, tags=list(tags), **settings).apply()


def content(home: Path) -> list[str]:
    """Everything in the MLflow database."""
    with sqlite3.connect(home / "mlflow.db") as database:
        return list(database.iterdump())


def waited(here: Command, path: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, result and progress of a run that is waited for."""
    code, out, err = here("run", path, "--deployment", "--wait", "--timeout", "2m", "--json", *options)
    (result,) = json.loads(out)
    return code, result, err


def test_the_outcomes_of_a_task_reach_the_command_that_waits(
    setup: PrefectSetup, worker: None, here: Command, taught_base: Path, tmp_path: Path
) -> None:
    def spec(**changes: Any) -> Path:
        return write_toy(tmp_path, taught_base, **{"name": "story", "training": SHORT, "gates": EASY, **changes})

    deploy(spec(), "warm")
    before = content(setup.home)
    code, result, _ = waited(here, spec(gates=IMPOSSIBLE), "--dry-run")
    assert (code, result["outcome"], result["dry_run"], result["version"]) == (20, "rejected", True, None)
    assert flow_run(result["prefect_url"]).state.name == "Dry run: Rejected"
    assert content(setup.home) == before

    code, result, progress = waited(here, spec())
    assert (code, result["outcome"], result["exit_code"], result["version"]) == (0, "promoted", 0, 1)
    assert result["scores"]["candidate"] >= 0 and result["gates"] and result["run_id"]
    assert result["prefect_url"].startswith(setup.url.removesuffix("/api"))
    assert "story: started" in progress and "story: Running" in progress and result["prefect_url"] in progress

    code, result, _ = waited(here, spec())
    assert (code, result["outcome"], result["version"]) == (0, "unchanged", 1)
    assert waited(here, spec(), "--strict")[0] == 10
    code, result, _ = waited(here, spec(), "--strict", "--force")
    assert (code, result["outcome"], result["version"]) == (0, "promoted", 2)

    code, result, _ = waited(here, spec(approval="required"))
    assert (code, result["outcome"], result["version"]) == (30, "awaiting_approval", 3)

    report = tmp_path / "reports" / "junit.xml"
    code, result, _ = waited(here, spec(gates=IMPOSSIBLE), "--junit", str(report))
    assert (code, result["outcome"], result["version"]) == (20, "rejected", 4)
    suite = ElementTree.parse(report).getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "1", "0")
    failure = suite.find("testcase[@name='story']/failure")
    assert failure is not None and failure.get("type") == "rejected"
    assert failure.text is not None and "✗ accuracy at least 1.01" in failure.text and result["run_url"] in failure.text

    code, result, _ = waited(here, spec(gates=IMPOSSIBLE))
    assert (code, result["outcome"], result["stands_for"], result["version"]) == (20, "unchanged", "rejected", 4)
    assert flow_run(result["prefect_url"]).state.name == "Unchanged (rejected)"


def test_failures_on_the_worker_are_told_with_their_reasons(
    setup: PrefectSetup, worker: None, here: Command, taught_base: Path, tmp_path: Path
) -> None:
    gone = write_toy(tmp_path / "gone", taught_base, name="gone")
    (tmp_path / "gone" / "train.csv").unlink()
    deploy(gone, "warm")
    code, result, _ = waited(here, gone)
    assert (code, result["outcome"]) == (40, "invalid") and "train.csv: no such file" in result["reason"]

    far = write_toy(tmp_path / "far", "nobody/nothing", name="far", base_model={"id": "nobody/nothing", "revision": "a" * 40})
    deploy(far, "warm")
    code, result, _ = waited(here, far)
    assert (code, result["outcome"]) == (50, "unavailable") and "the hub cannot be reached" in result["reason"]


def test_a_run_that_nobody_takes_times_out_and_stays(
    setup: PrefectSetup, here: Command, taught_base: Path, tmp_path: Path
) -> None:
    path = write_toy(tmp_path, taught_base, name="late")
    deploy(path)
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_STEP_SUMMARY", str(summary))
        code, out, _ = here("run", path, "--deployment", "--wait", "--timeout", "2s", "--github-summary")
    assert (code, out.splitlines()[-1]) == (124, "timed_out") and "No worker has taken it" in out
    run = flow_run(summary.read_text().partition("[Prefect](")[2].partition(")")[0])
    assert run.state.is_scheduled()
    assert summary.read_text().startswith("before\n### Soft prompts\n") and "| late | timed out |" in summary.read_text()


def test_without_wait_the_run_is_only_started(setup: PrefectSetup, here: Command, taught_base: Path, tmp_path: Path) -> None:
    path = write_toy(tmp_path, taught_base, name="later")
    deploy(path)
    code, out, _ = here("run", path, "--deployment", "--force", "--json")
    (result,) = json.loads(out)
    run = flow_run(result["prefect_url"])
    assert (code, result["outcome"]) == (0, "triggered")
    assert run.state.is_scheduled() and run.parameters == {"spec": str(path), "force": True}


def test_a_deployment_that_does_not_exist_is_invalid(
    setup: PrefectSetup, here: Command, taught_base: Path, tmp_path: Path
) -> None:
    path = write_toy(tmp_path, taught_base, name="nowhere")
    code, result, _ = waited(here, path)
    assert (code, result["outcome"]) == (40, "invalid")
    assert "no deployment `softprompt-lifecycle/nowhere`" in result["reason"] and "softprompt deploy" in result["reason"]
    code, result, _ = waited(here, path, "--deployment-name", "other-flow/{task}-x")
    assert code == 40 and "no deployment `other-flow/nowhere-x`" in result["reason"]


@pytest.mark.parametrize(
    "kind, name, code, outcome",
    [
        ("Cancelled", "Cancelled", 60, "cancelled"),
        ("Crashed", "Crashed", 50, "unavailable"),
        ("Failed", "Failed", 50, "unavailable"),
        ("Failed", "Diverged", 41, "diverged"),
    ],
)
def test_a_run_that_ends_without_its_details_is_read_by_its_state(
    setup: PrefectSetup, here: Command, taught_base: Path, tmp_path: Path, kind: str, name: str, code: int, outcome: str
) -> None:
    from prefect import states

    path = write_toy(tmp_path, taught_base, name=f"stopped-{name.lower()}")
    deploy(path)
    state = getattr(states, kind)(name=name, message="not today")
    thread = in_thread(lambda: set_state(until(lambda: runs_of(path.stem), 60)[0], state))
    exited, result, _ = waited(here, path)
    thread.join()
    assert (exited, result["outcome"], result["exit_code"]) == (code, outcome, code)
    assert "not today" in result["reason"]


def test_a_run_that_meets_another_where_one_is_allowed_is_cancelled(
    setup: PrefectSetup, here: Command, taught_base: Path, tmp_path: Path
) -> None:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.states import Pending

    path = write_toy(tmp_path, taught_base, name="crowded")
    deploy(path, concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW))
    here("run", path, "--deployment")
    (first,) = runs_of("crowded")
    set_state(first, Pending(), force=False)

    def take() -> None:
        second = until(lambda: [run for run in runs_of("crowded") if run.id != first.id], 60)[0]
        set_state(second, Pending(), force=False)

    thread = in_thread(take)
    code, result, _ = waited(here, path)
    thread.join()
    assert (code, result["outcome"]) == (60, "cancelled") and "another run of the task is under way" in result["reason"]


def test_ctrl_c_leaves_the_run_alone(setup: PrefectSetup, taught_base: Path, tmp_path: Path) -> None:
    path = write_toy(tmp_path, taught_base, name="alone")
    deploy(path)
    waiting = WaitingCommand(setup, path)
    waiting.until_output_has("alone: started", 60)
    code, output = waiting.interrupt(signal.SIGINT)
    (run,) = runs_of("alone")
    assert code == 130 and run.state.is_scheduled()
    assert "interrupted by SIGINT: alone goes on, http" in output and "Traceback" not in output


def test_an_interruption_cancels_the_run_when_asked_to(setup: PrefectSetup, taught_base: Path, tmp_path: Path) -> None:
    """With Prefect's own runner: the training's process really ends."""
    slow = {"max_steps": 200_000, "eval_every": 1000, "patience": 10_000}
    path = write_toy(tmp_path, taught_base, name="endless", training=slow)
    runner = setup.spawn("tests.flows.serving", "endless", path, PREFECT_RUNNER_POLL_FREQUENCY="1")
    try:
        until(lambda: any("endless" in line for line in setup.log.read_text().splitlines()), 300)
        waiting = WaitingCommand(setup, path, "--cancel-on-interrupt")
        waiting.until_output_has("train: endless", 300)
        code, output = waiting.interrupt(signal.SIGTERM)
        assert code == 143 and "interrupted by SIGTERM: endless is being cancelled" in output
        (run,) = runs_of("endless")
        until(lambda: flow_run(str(run.id)).state.is_cancelled(), 300)
    finally:
        end(runner)
    store = Store.connect()
    experiment = store.client.get_experiment_by_name("softprompt/endless")
    assert [run.info.status for run in store.client.search_runs([experiment.experiment_id])] == ["KILLED"]
    assert versions.list_versions(store, "endless") == []


def test_a_server_that_is_away_is_waited_for_until_the_time_is_out(
    setup: PrefectSetup, here: Command, taught_base: Path, tmp_path: Path
) -> None:
    from prefect.states import Completed

    patient, hurried = (write_toy(tmp_path, taught_base, name=name) for name in ("patient", "hurried"))
    for path in (patient, hurried):
        deploy(path)
    lost = []

    def restart() -> None:
        run = until(lambda: runs_of("patient"), 60)[0]
        waiting = WaitingCommand(setup, hurried, "--timeout", "10s")
        waiting.until_output_has("hurried: started", 60)
        setup.server.stop()
        lost.append(waiting.ended())
        setup.server.start()
        set_state(run, Completed(name="Rejected", message="a gate said no"))

    thread = in_thread(restart)
    code, result, progress = waited(here, patient)
    thread.join()
    assert (code, result["outcome"], result["reason"]) == (20, "rejected", "a gate said no")
    assert "does not answer" in progress and "answers again" in progress
    assert lost[0][0] == 50 and "Traceback" not in lost[0][1]


def test_options_that_need_another_are_refused(here: Command, taught_base: Path, tmp_path: Path) -> None:
    path = write_toy(tmp_path, taught_base, name="options")
    for wrong, words in (
        (["--wait"], "add --deployment"),
        (["--deployment", "--ray"], "put `parameters: {ray: true}` in the environment file"),
        (["--deployment", "--timeout", "30m"], "add --wait"),
        (["--deployment", "--cancel-on-interrupt"], "add --wait"),
        (["--deployment", "--wait", "--timeout", "soon"], "`soon` is no length of time"),
        ([str(path), "--deployment-name", "one"], "put {task} in the name"),
        (["--github-summary"], "GITHUB_STEP_SUMMARY is not set"),
        (["--junit", str(path / "below a file")], "cannot be written"),
    ):
        code, _, err = here("run", path, *wrong)
        assert code == 40 and words in err, wrong


def test_a_dry_run_decides_and_registers_nothing(setup: PrefectSetup, here: Command, taught_base: Path, tmp_path: Path) -> None:
    good = write_toy(tmp_path, taught_base, name="dry", training=SHORT, gates=EASY)
    before = content(setup.home)
    code, out, _ = here("run", good, "--dry-run")
    assert (code, out.splitlines()[-1]) == (0, "dry run: promoted") and "✓ accuracy at least 0" in out

    bad = write_toy(tmp_path / "bad", taught_base, name="dry-bad")
    (tmp_path / "bad" / "test.csv").unlink()
    report = tmp_path / "junit.xml"
    code, out, _ = here("run", good, bad, "--dry-run", "--json", "--junit", report)
    found = [(r["task"], r["outcome"], r["dry_run"], r["version"], r["run_url"]) for r in json.loads(out)]
    assert code == 40
    assert found == [("dry", "promoted", True, None, None), ("dry-bad", "invalid", True, None, None)]
    cases = {case.get("name"): [part.tag for part in case] for case in ElementTree.parse(report).iter("testcase")}
    assert cases == {"dry": ["system-out"], "dry-bad": ["error"]}
    assert content(setup.home) == before and not (setup.home / "artifacts" / "dry").exists()

    code, out, _ = here("run", good, "--json")
    (real,) = json.loads(out)
    assert (code, real["outcome"], real["version"], real["dry_run"]) == (0, "promoted", 1, False)
    assert here("run", good, "--dry-run", "--strict")[0] == 10
