"""``softprompt deploy`` on a Prefect server with its scheduler, and a worker that runs what the schedule brings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import yaml

from tests.flows.test_deploy_environment import spec
from tests.services.prefect_server import PrefectServer
from tests.toy_task import write_toy

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "deployments" / "work_pools"
EVERY_MINUTE = {"cron": "* * * * *", "timezone": "Europe/Berlin"}
WEEKLY = {"cron": "0 3 * * 1", "timezone": "UTC"}

Deploy = Callable[..., dict[str, tuple[str, str]]]


@pytest.fixture(scope="module")
def scheduling_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a whole server: the one of the test harness has no scheduler."""
    from tests.services.prefect_client import prefect_client

    folder = tmp_path_factory.mktemp("server")
    quick = {"PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1S"}
    with PrefectServer(folder, environment=quick) as server, prefect_client(server.url):
        yield server.url


def until(condition: Callable[[], Any], seconds: float, message: Callable[[], object] = str) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, message()
        time.sleep(0.3)
    return value


@pytest.fixture
def folder(scheduling_server: str, isolated_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two specs; each test has a name of its own for tasks and environment."""
    monkeypatch.setenv("PREFECT_API_URL", scheduling_server)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.delenv("SOFTPROMPT_HOME")  # runs keep their files in their working directory, which is this folder
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").mkdir()
    return tmp_path


@pytest.fixture
def deploy(folder: Path, here: Callable[..., tuple[int, str, str]]) -> Deploy:
    """Write the environment file, deploy, and return name → (action, detail)."""

    def run(name: str, *arguments: str, **settings: Any) -> dict[str, tuple[str, str]]:
        write_environment(folder, name, **settings)
        code, out, err = here("deploy", "-e", name, "--json", *arguments)
        assert code == 0, err
        return {change["name"]: (change["action"], change["detail"]) for change in json.loads(out)["changes"]}

    return run


def write_environment(folder: Path, name: str, **settings: Any) -> None:
    environments = folder / "deployments" / "environments"
    environments.mkdir(parents=True, exist_ok=True)
    value = {"work_pool": {"name": f"pool-{name}"}, "specs": ["specs"], **settings}
    (environments / f"{name}.yaml").write_text(yaml.safe_dump(value))


def deployment(name: str, flow: str = "softprompt-lifecycle") -> Any:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            return client.read_deployment_by_name(f"{flow}/{name}")
        except ObjectNotFound:
            return None


def runs(of: UUID) -> list[Any]:
    """Flow runs of a deployment, in the order of their scheduled times."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter

    with get_client(sync_client=True) as client:
        flow_runs = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate({"deployment_id": {"any_": [of]}}))
    return sorted(flow_runs, key=lambda run: run.expected_start_time)


def test_once_creates_twice_changes_nothing_and_a_removed_spec_loses_its_schedule(folder: Path, deploy: Deploy) -> None:
    spec(folder / "specs", "twice-a", schedule=EVERY_MINUTE)
    spec(folder / "specs", "twice-b", schedule=WEEKLY)
    crashed = "softprompt twice: close crashed runs"

    first = deploy("twice")
    assert {name: action for name, (action, _) in first.items()} == dict.fromkeys(
        ["pool-twice", "twice-a", "twice-b", crashed], "created"
    )
    assert first["twice-a"] == ("created", "* * * * * Europe/Berlin")
    created = deployment("twice-a")
    assert (created.work_pool_name, created.global_concurrency_limit.limit) == ("pool-twice", 1)
    assert created.concurrency_options.collision_strategy == "CANCEL_NEW"
    until(lambda: runs(created.id), 20)  # the server's scheduler has created runs

    assert {action for action, _ in deploy("twice").values()} == {"unchanged"}
    assert deployment("twice-a").updated == created.updated

    (folder / "specs" / "twice-a.yaml").unlink()
    spec(folder / "specs", "twice-b", schedule={"cron": "0 4 * * 1", "timezone": "UTC"})
    third = deploy("twice", work_pool={"name": "pool-twice", "concurrency": 3})
    assert third["twice-a"] == ("removed", "specs/twice-a.yaml no longer asks for it")
    assert third["twice-b"] == ("updated", "schedule; 0 4 * * 1 UTC")
    assert third["pool-twice"] == ("updated", "concurrency_limit")
    assert deployment("twice-a") is None and runs(created.id) == []
    (schedule,) = deployment("twice-b").schedules
    assert schedule.schedule.cron == "0 4 * * 1"

    spec(folder / "specs", "twice-b", schedule=None)
    assert deploy("twice")["twice-b"] == ("updated", "schedule; no schedule")
    assert deployment("twice-b").schedules == []
    assert deploy("twice")["pool-twice"] == ("unchanged", "")


def test_a_dry_run_and_a_bad_spec_change_nothing(folder: Path, deploy: Deploy, here: Callable[..., tuple[int, str, str]]) -> None:
    spec(folder / "specs", "dry")
    would = deploy("dry", "--dry-run")
    assert {action for action, _ in would.values()} == {"created"} and "softprompt dry: close crashed runs" in would
    assert deployment("dry") is None

    (folder / "specs" / "odd.yaml").write_text("name: odd\ndatta: {}\n")
    code, out, err = here("deploy", "-e", "dry", "specs")
    assert (code, out) == (40, "") and "odd.yaml:2: unknown key `datta`" in err
    spec(folder / "specs", "odd", schedule={"cron": "61 * * * *"})
    code, out, err = here("deploy", "-e", "dry", "specs")
    assert (code, out) == (40, "") and "`schedule.cron`: cron '61 * * * *' names no time" in err
    (folder / "specs" / "odd.yaml").unlink()
    write_environment(folder, "dry", job_variables={"stream_output": "perhaps"})
    code, out, err = here("deploy", "-e", "dry", "specs")
    assert (code, out) == (40, "") and "the Prefect server refuses it" in err and "perhaps" in err
    assert deployment("dry") is None


def test_what_others_made_is_left_alone(folder: Path, deploy: Deploy, here: Callable[..., tuple[int, str, str]]) -> None:
    from prefect.client.orchestration import get_client

    from flows.lifecycle import lifecycle

    with get_client(sync_client=True) as client:
        client.create_deployment(client.create_flow(lifecycle), "by-hand", parameters={"spec": "specs/gone.yaml"})
    spec(folder / "specs", "shared")
    deploy("owner")
    write_environment(folder, "other")
    code, _, err = here("deploy", "-e", "other")
    assert code == 40 and "softprompt-lifecycle/shared belongs to environment owner" in err and "deployment_name" in err

    assert deploy("other", deployment_name="{task}-other")["shared-other"][0] == "created"
    (folder / "specs" / "shared.yaml").unlink()
    assert deploy("other", deployment_name="{task}-other")["shared-other"][0] == "removed"
    assert deployment("shared") is not None and deployment("by-hand") is not None


def test_one_spec_can_be_deployed_alone_and_what_was_paused_by_hand_stays_so(folder: Path, deploy: Deploy) -> None:
    from prefect.client.orchestration import get_client

    spec(folder / "specs", "pause-a", schedule=WEEKLY)
    spec(folder / "specs", "pause-b")
    deploy("pause")
    created = deployment("pause-a")
    with get_client(sync_client=True) as client:
        client.update_deployment_schedule(created.id, created.schedules[0].id, active=False)
    (folder / "specs" / "pause-b.yaml").unlink()
    spec(folder / "specs", "pause-a", schedule=WEEKLY, description="Other words.")

    changed = deploy("pause", "specs/pause-a.yaml")

    assert changed["pause-a"] == ("updated", "description; 0 3 * * 1 UTC, paused by hand")
    assert [each.active for each in deployment("pause-a").schedules] == [False]
    assert "pause-b" not in changed and deployment("pause-b") is not None


def test_retraining_automations_of_earlier_releases_go(folder: Path, deploy: Deploy) -> None:
    from prefect.client.orchestration import get_client

    from flows.deploying.automations import close_crashed
    from flows.deploying.desired import environment_tag

    spec(folder / "specs", "again")
    retrain = close_crashed("again", 60).model_copy(update={"name": "softprompt again: retrain again"})
    foreign = retrain.model_copy(update={"name": "retrain", "tags": [environment_tag("again")]})
    with get_client(sync_client=True) as client:
        for automation in (retrain, foreign):
            client.create_automation(automation)
        assert deploy("again", "--dry-run")["softprompt again: retrain again"][0] == "removed"
        assert deploy("again")["softprompt again: retrain again"][0] == "removed"
        assert client.read_automations_by_name("softprompt again: retrain again") == []
        assert len(client.read_automations_by_name("retrain")) == 1
    assert "softprompt again: retrain again" not in deploy("again")


def test_overlapping_runs_collapse_into_the_one_that_runs(folder: Path, deploy: Deploy) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Pending

    spec(folder / "specs", "overlap")
    deploy("overlap")
    with get_client(sync_client=True) as client:
        first, second = (client.create_flow_run_from_deployment(deployment("overlap").id) for _ in range(2))
        states = [client.set_flow_run_state(run.id, Pending()).state for run in (first, second)]
    assert [state.name for state in states if state] == ["Pending", "Cancelled"]


def test_a_deployment_is_not_taken_from_under_a_run(folder: Path, deploy: Deploy) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Completed, Pending, Running

    spec(folder / "specs", "busy", schedule=WEEKLY)
    deploy("busy")
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(deployment("busy").id, name="long")
        for state in (Pending(), Running()):
            client.set_flow_run_state(run.id, state)
        spec(folder / "specs", "busy", schedule=WEEKLY, description="Other words.")
        assert deploy("busy")["busy"][0] == "updated"
        assert deployment("busy").global_concurrency_limit.active_slots == 1  # the run still holds its place

        (folder / "specs" / "busy.yaml").unlink()
        action, detail = deploy("busy")["busy"]
        assert action == "updated" and "when run long has ended" in detail
        assert deployment("busy").schedules == []
        assert client.set_flow_run_state(run.id, Completed(name="Promoted")).status == "ACCEPT"
    assert deploy("busy")["busy"] == ("removed", "specs/busy.yaml no longer asks for it")


def test_a_run_that_falls_silent_is_closed_and_one_that_ended_is_not(scheduling_server: str, folder: Path) -> None:
    from prefect.client.orchestration import get_client
    from prefect.events import emit_event
    from prefect.events.related import tags_as_related_resources
    from prefect.states import Completed, Running

    from flows.deploying.automations import close_crashed
    from flows.deploying.desired import environment_tag
    from flows.lifecycle import lifecycle

    tags = [environment_tag("silent")]
    with get_client(sync_client=True) as client:
        client.create_automation(close_crashed("silent", 4))  # three times that; Prefect takes no less than 10 s
        time.sleep(2)  # the server's triggers read new automations in a moment
        dead, done = (client.create_flow_run(lifecycle, parameters={"spec": "x"}, tags=tags, state=Running()) for _ in range(2))
        for run in (dead, done):
            resource = {"prefect.resource.id": f"prefect.flow-run.{run.id}"}
            emit_event("prefect.flow-run.heartbeat", resource=resource, related=tags_as_related_resources(tags))
        client.set_flow_run_state(done.id, Completed(name="Promoted"))
        until(lambda: client.read_flow_run(dead.id).state_name == "Crashed", 45)
        assert client.read_flow_run(done.id).state_name == "Promoted"


def test_work_pools_are_made_from_our_templates(folder: Path, deploy: Deploy, here: Callable[..., tuple[int, str, str]]) -> None:
    spec(folder / "specs", "pooled")
    for kind in ("process", "docker", "kubernetes"):
        pool = {"name": f"ours-{kind}", "type": kind, "base_job_template": str(TEMPLATES / f"{kind}.yaml")}
        settings: dict[str, Any] = {"work_pool": pool, "deployment_name": f"{{task}}-{kind}", "job_variables": {"threads": "3"}}
        first = deploy(kind, **settings)
        assert (first[f"ours-{kind}"], first[f"pooled-{kind}"][0]) == (("created", kind), "created")
        assert {action for action, _ in deploy(kind, **settings).values()} == {"unchanged"}
        write_environment(folder, kind, **{**settings, "job_variables": {"threads": "many"}})
        code, _, err = here("deploy", "-e", kind)
        assert code == 40 and "threads" in err, err


def test_late_runs_collapse_into_one_and_the_next_comes_by_its_schedule(
    scheduling_server: str, folder: Path, deploy: Deploy, taught_base: Path
) -> None:
    write_toy(folder / "specs", taught_base, name="clock", schedule=EVERY_MINUTE)
    pool = {"name": "pool-clock", "base_job_template": str(TEMPLATES / "process.yaml")}
    deploy("clock", work_pool=pool, job_variables={"threads": "1"}, env={"PYTHONPATH": str(ROOT)})
    created = deployment("clock")
    began = datetime.now(UTC)
    # What the scheduler would have left if nothing had been running for four minutes.
    late = {"start_time": (began - timedelta(minutes=4)).isoformat(), "end_time": began.isoformat()}
    # The server's database is busy at times; the same runs are made once, however often they are asked for.
    until(lambda: httpx.post(f"{scheduling_server}/deployments/{created.id}/schedule", json=late).is_success, 60)
    missed = [run for run in runs(created.id) if run.expected_start_time < began]
    assert len(missed) == 4 and all(run.auto_scheduled for run in missed)

    def ended() -> dict[str, list[Any]]:
        final = [run for run in runs(created.id) if run.state.is_final()]
        old = {run.id for run in missed}
        return {"late": [run for run in final if run.id in old], "next": [run for run in final if run.id not in old]}

    with worker(folder, "pool-clock") as log:
        until(lambda: len(ended()["late"]) == 4, 300, log.read_text)
        (promoted,) = [run for run in ended()["late"] if run.state_name != "Cancelled"]
        assert promoted.state_name == "Promoted"  # and not the outcome of a run in some other folder:
        assert (folder / ".softprompt" / "mlflow.db").is_file()
        following = until(lambda: [run for run in ended()["next"] if run.state_name != "Cancelled"], 300, log.read_text)
    assert following[0].auto_scheduled and following[0].expected_start_time.second == 0
    assert following[0].state_name == "Unchanged"


@contextmanager
def worker(folder: Path, pool: str) -> Iterator[Path]:
    """``prefect worker start`` for one pool; gives its log. One run at a time, as on a small machine."""
    elsewhere = folder / "elsewhere"  # a worker need not stand in the folder of the specs
    elsewhere.mkdir()
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--limit", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_WORKER_QUERY_SECONDS": "1"}
    with (folder / "worker.log").open("w") as log:
        process = subprocess.Popen(command, cwd=elsewhere, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield folder / "worker.log"
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def test_without_a_server_it_ends_as_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: Callable[..., tuple[int, str, str]]
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.chdir(tmp_path)
    spec(tmp_path, "nowhere")
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        code, _, err = here("deploy", "nowhere.yaml", "-e", "dev")
        assert code == 50 and "schedules need a Prefect server that keeps running" in err
        monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
        code, _, err = here("deploy", "nowhere.yaml", "-e", "dev")
        assert code == 50 and "the Prefect server does not answer" in err


def test_prefects_own_command_reads_our_prefect_yaml(folder: Path) -> None:
    (folder / "deployments").mkdir()
    (folder / "deployments" / "prefect.yaml").write_text((ROOT / "deployments" / "prefect.yaml").read_text())
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="softprompt-dev", type="process"))
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "deployments/prefect.yaml"]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for path in (ROOT / "deployments" / "demo").glob("*.yaml"):
        created = deployment(f"demo-{path.stem}")
        assert created.parameters == {"spec": f"deployments/demo/{path.name}"}
        assert (created.global_concurrency_limit.limit, created.concurrency_options.collision_strategy) == (1, "CANCEL_NEW")
        assert str(folder) not in json.dumps(created.pull_steps)
    (schedule,) = deployment("demo-tickets").schedules
    assert schedule.schedule.cron == "0 3 * * 1"
    assert deployment("demo-fleet", flow="softprompt-fleet").parameters == {"specs": ["deployments/demo"]}
