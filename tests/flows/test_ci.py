"""``softprompt run --deployment --wait`` against a real Prefect server and a worker process: outcomes, exit codes, reports."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import httpx
import pytest

from softprompt_core import registry
from softprompt_core.stages import record
from tests.toy_task import write_toy

ROOT = Path(__file__).parents[2]
SHORT = {"max_steps": 4, "eval_every": 2, "batch_size": 16}
EASY = [{"metric": "accuracy", "at_least": 0.0}]
IMPOSSIBLE = [{"metric": "accuracy", "at_least": 1.01}]
Command = Callable[..., tuple[int, str, str]]


class Place:
    """A Prefect server that can be restarted, and the environment in which commands and workers find it and the record."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.home = home
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.environment = {
            **os.environ,
            "PREFECT_HOME": str(folder),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_LOGGING_LEVEL": "WARNING",
            "SOFTPROMPT_HOME": str(home),
            "PYTHONPATH": str(ROOT),
        }
        self.log = folder / "log.txt"
        self.server: subprocess.Popen[bytes] | None = None
        self.start()

    def spawn(self, *arguments: str | Path, **environment: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", *map(str, arguments)]
            env = {**self.environment, **environment}
            return subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT)

    def start(self) -> None:
        self.server = self.spawn("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port))
        until(self._answers, 120)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=2).is_success
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        assert self.server is not None
        end(self.server)


def until(condition: Callable[[], Any], seconds: float) -> Any:
    last = time.monotonic() + seconds
    while time.monotonic() < last:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, blank_home: Path) -> Iterator[Place]:
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, PREFECT_LOCAL_STORAGE_PATH, temporary_settings

    folder = tmp_path_factory.mktemp("ci-prefect")
    home = tmp_path_factory.mktemp("ci") / "home"
    home.mkdir()
    shutil.copy(blank_home / "mlflow.db", home)
    made = Place(folder, home)
    settings = {PREFECT_API_URL: made.url, PREFECT_HOME: folder, PREFECT_LOCAL_STORAGE_PATH: folder / "storage"}
    try:
        with temporary_settings(settings):
            yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def worker(place: Place) -> Iterator[None]:
    process = place.spawn("tests.flows.warm_worker")
    yield
    end(process)


@pytest.fixture(autouse=True)
def at_home(place: Place, isolated_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTPROMPT_HOME", str(place.home))


def deploy(path: Path, *tags: str) -> None:
    """The deployment of a spec's task; nobody serves it unless it has the tag ``warm``."""
    from flows.lifecycle import lifecycle

    lifecycle.to_deployment(path.stem, parameters={"spec": str(path)}, tags=list(tags)).apply()


def content(home: Path) -> list[str]:
    """Everything in the MLflow database."""
    with sqlite3.connect(home / "mlflow.db") as database:
        return list(database.iterdump())


def flow_run(identifier: str) -> Any:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_flow_run(UUID(identifier.rpartition("/")[2]))


def waited(here: Command, path: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, result and progress of a run that is waited for."""
    code, out, err = here("run", path, "--deployment", "--wait", "--timeout", "2m", "--json", *options)
    (result,) = json.loads(out)
    return code, result, err


def test_the_outcomes_of_a_task_reach_the_command_that_waits(
    place: Place, worker: None, here: Command, taught_base: Path, tmp_path: Path
) -> None:
    def spec(**changes: Any) -> Path:
        return write_toy(tmp_path, taught_base, **{"name": "story", "training": SHORT, "gates": EASY, **changes})

    deploy(spec(), "warm")
    before = content(place.home)
    code, result, _ = waited(here, spec(gates=IMPOSSIBLE), "--dry-run")
    assert (code, result["outcome"], result["dry_run"], result["version"]) == (20, "rejected", True, None)
    assert flow_run(result["prefect_url"]).state.name == "Dry run: Rejected"
    assert content(place.home) == before

    code, result, progress = waited(here, spec())
    assert (code, result["outcome"], result["exit_code"], result["version"]) == (0, "promoted", 0, 1)
    assert result["scores"]["candidate"] >= 0 and result["gates"] and result["run_id"]
    assert result["prefect_url"].startswith(place.url.removesuffix("/api"))
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


def test_failures_on_the_worker_are_told_with_their_reasons(
    place: Place, worker: None, here: Command, taught_base: Path, tmp_path: Path
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


def test_a_run_that_nobody_takes_times_out_and_stays(place: Place, here: Command, taught_base: Path, tmp_path: Path) -> None:
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


def test_without_wait_the_run_is_only_started(place: Place, here: Command, taught_base: Path, tmp_path: Path) -> None:
    path = write_toy(tmp_path, taught_base, name="later")
    deploy(path)
    code, out, _ = here("run", path, "--deployment", "--force", "--json")
    (result,) = json.loads(out)
    run = flow_run(result["prefect_url"])
    assert (code, result["outcome"]) == (0, "triggered")
    assert run.state.is_scheduled() and run.parameters == {"spec": str(path), "force": True}


def test_a_deployment_that_does_not_exist_is_invalid(place: Place, here: Command, taught_base: Path, tmp_path: Path) -> None:
    path = write_toy(tmp_path, taught_base, name="nowhere")
    code, result, _ = waited(here, path)
    assert (code, result["outcome"]) == (40, "invalid")
    assert "no deployment `softprompt-lifecycle/nowhere`" in result["reason"] and "softprompt deploy" in result["reason"]
    code, result, _ = waited(here, path, "--deployment-name", "other-flow/x")
    assert code == 40 and "no deployment `other-flow/x`" in result["reason"]


def runs_of(name: str) -> list[Any]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    with get_client(sync_client=True) as client:
        return client.read_flow_runs(deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[name])))


def set_state(run: Any, state: Any) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, state, force=True)


def in_thread(work: Callable[[], None]) -> threading.Thread:
    # Prefect's settings are in the context, which a thread does not take along by itself.
    thread = threading.Thread(target=copy_context().run, args=(work,), daemon=True)
    thread.start()
    return thread


class Waiting:
    """A command in a process of its own that waits for a run."""

    def __init__(self, place: Place, path: Path, *options: str) -> None:
        command = [sys.executable, "-m", "flows.cli", "run", str(path), "--deployment", "--wait", *options]
        self.process = subprocess.Popen(command, cwd=ROOT, env=place.environment, stderr=subprocess.PIPE, text=True)
        self.said = ""
        self.reader = in_thread(self._read)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line

    def until_said(self, words: str, seconds: float) -> None:
        until(lambda: words in self.said, seconds)

    def ended(self) -> tuple[int, str]:
        code = self.process.wait(60)
        self.reader.join()
        return code, self.said

    def interrupt(self, how: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(how)
        return self.ended()


def test_a_run_that_somebody_cancels_exits_60(place: Place, here: Command, taught_base: Path, tmp_path: Path) -> None:
    from prefect.states import Cancelled

    path = write_toy(tmp_path, taught_base, name="stopped")
    deploy(path)
    thread = in_thread(lambda: set_state(until(lambda: runs_of("stopped"), 60)[0], Cancelled(message="not today")))
    code, result, _ = waited(here, path)
    thread.join()
    assert (code, result["outcome"], result["exit_code"], result["reason"]) == (60, "cancelled", 60, "not today")


def test_ctrl_c_leaves_the_run_alone(place: Place, taught_base: Path, tmp_path: Path) -> None:
    path = write_toy(tmp_path, taught_base, name="alone")
    deploy(path)
    waiting = Waiting(place, path)
    waiting.until_said("alone: started", 60)
    code, said = waiting.interrupt(signal.SIGINT)
    (run,) = runs_of("alone")
    assert code == 130 and run.state.is_scheduled()
    assert "interrupted; alone goes on, http" in said and "Traceback" not in said


def test_an_interruption_cancels_the_run_when_asked_to(place: Place, taught_base: Path, tmp_path: Path) -> None:
    """With Prefect's own runner: the training's process really ends."""
    slow = {"max_steps": 200_000, "eval_every": 1000, "patience": 10_000}
    path = write_toy(tmp_path, taught_base, name="endless", training=slow)
    runner = place.spawn("tests.flows.serving", "endless", path, PREFECT_RUNNER_POLL_FREQUENCY="1")
    try:
        until(lambda: any("endless" in line for line in place.log.read_text().splitlines()), 120)
        waiting = Waiting(place, path, "--cancel-on-interrupt")
        waiting.until_said("train: endless", 120)
        code, said = waiting.interrupt(signal.SIGTERM)
        assert code == 130 and "interrupted; endless is being cancelled" in said
        (run,) = runs_of("endless")
        until(lambda: flow_run(str(run.id)).state.is_cancelled(), 60)
    finally:
        end(runner)
    client = record.client()
    experiment = client.get_experiment_by_name("softprompt/endless")
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FAILED"]
    assert registry.list_versions(client, "endless") == []


def test_a_server_that_is_away_is_waited_for_until_the_time_is_out(
    place: Place, here: Command, taught_base: Path, tmp_path: Path
) -> None:
    from prefect.states import Completed

    patient, hurried = (write_toy(tmp_path, taught_base, name=name) for name in ("patient", "hurried"))
    for path in (patient, hurried):
        deploy(path)
    lost = []

    def restart() -> None:
        run = until(lambda: runs_of("patient"), 60)[0]
        waiting = Waiting(place, hurried, "--timeout", "15s")
        waiting.until_said("hurried: started", 60)
        place.stop()
        lost.append(waiting.ended())
        place.start()
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
        (["--deployment", "--timeout", "30m"], "add --wait"),
        (["--deployment", "--cancel-on-interrupt"], "add --wait"),
        (["--deployment", "--wait", "--timeout", "soon"], "`soon` is no length of time"),
        (["--github-summary"], "GITHUB_STEP_SUMMARY is not set"),
        (["--junit", str(path / "below a file")], "cannot be written"),
    ):
        code, _, err = here("run", path, *wrong)
        assert code == 40 and words in err, wrong
