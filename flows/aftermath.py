"""What runs left that did not end as they should: dead runs, spooled metrics, half-made versions, endless flow runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from flows.findings import Finding
from softprompt_core import settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

_REPAIR = "`softprompt doctor --repair`"
_HEARTBEAT = "prefect.flow-run.heartbeat"
_SILENT = timedelta(minutes=10)  # heartbeats come every three minutes at most


def spooled() -> Iterator[Finding]:
    """Metrics that MLflow does not have yet. Told from files, so that it can be told while MLflow is away."""
    from softprompt_core import registry
    from softprompt_core.stages import record

    waiting = 0
    for spool in registry.spools(record.stores()):
        found = spool.waiting()
        if not found or (spool.since is None and not spool.left()):
            continue  # a training that delivers as it goes
        waiting += 1
        what = [f"{len(found.rows)} rows of metrics"] if found.rows else []
        what += [f"its end ({found.ending.tags.get(registry.tags.OUTCOME, found.ending.status)})"] if found.ending else []
        since = f" since {_time(spool.since)}" if spool.since else ""
        why = spool.why or "its process is gone"
        said = f"{spool.task} run {spool.run_id}: {' and '.join(what)} not delivered{since}: {why}"
        yield Finding("warning", "metrics", said, f"{_REPAIR} delivers them once MLflow answers, and so does the next run")
    if not waiting:
        yield Finding("ok", "metrics", "nothing waits to be delivered")


def died() -> Iterator[Finding]:
    """Runs whose process is gone."""
    from softprompt_core import registry
    from softprompt_core.registry import processes, tags
    from softprompt_core.stages import record

    client = record.client()
    ended = {spool.run_id for spool in registry.spools(record.stores()) if spool.waiting().ending}  # told under `metrics`
    runs = [run for run in registry.killed_runs(client) if run.info.run_id not in ended]
    for run in runs:
        who = processes.in_words(run.data.tags.get(tags.PROCESS, ""))
        said = f"{run.data.tags.get(tags.TASK, '?')} run {run.info.run_id} died: begun {_time(_moment(run.info.start_time))}"
        said += f", last sign {_time(_last_sign(client, run))}; {who}, is gone"
        do = f"run the task again, it goes on from its checkpoint; or {_REPAIR} ends the run as KILLED"
        yield Finding("warning", "runs", said, do)
    if not runs:
        yield Finding("ok", "runs", "none has died on this machine")


def unfinished() -> Iterator[Finding]:
    """Versions whose registration broke off, and newest versions that nobody decided about."""
    from softprompt_core import registry
    from softprompt_core.registry import tags
    from softprompt_core.stages import record

    client, odd = record.client(), 0
    for half in registry.half_made(client):
        odd += 1
        said = f"{half.name} version {half.version}: its registration broke off (run {half.run_id}); no command sees it"
        yield Finding("warning", "registered", said, f"{_REPAIR} deletes it, and so does the task's next registration")
    newest: set[str] = set()
    for version in registry.list_versions(client):
        first = version.name not in newest
        newest.add(version.name)
        if first and tags.OUTCOME not in version.tags and registry.has_ended(client, version.run_id):
            odd += 1
            said = f"{version.name} version {version.version} is undecided: its run {version.run_id} broke off after registration"
            yield Finding("warning", "registered", said, "run the task again: nothing is trained, a new version is decided about")
    if not odd:
        yield Finding("ok", "registered", "no version is half made")


def lost_flow_runs() -> Iterator[Finding]:
    """Flow runs that are Running on a Prefect server, but not in truth."""
    from prefect.client.orchestration import get_client

    if not settings.current().prefect_api_url:
        return
    with get_client(sync_client=True) as client:
        running = _running(client)
        gone = _gone(running)
        odd = 0
        for run in running:
            if str(run.id) in gone:
                odd += 1
                do = f"{_REPAIR} makes it Crashed"
                yield Finding("warning", "flow runs", f"{run.name} is Running in Prefect, but its lifecycle is over", do)
            elif (sign := _last_heartbeat(client, run)) and datetime.now(UTC) - sign > _SILENT:
                odd += 1
                said = f"{run.name} is Running in Prefect, without a heartbeat since {_time(sign)}"
                yield Finding("warning", "flow runs", said, "look at its worker; `softprompt deploy` has an automation for it")
    if not odd:
        yield Finding("ok", "flow runs", f"{len(running)} running, none without a process")


def crash_lost_flow_runs() -> list[str]:
    """Give flow runs whose lifecycle is over the state Crashed; returns their names."""
    if not settings.current().prefect_api_url:
        return []
    from flows.environment import prepare_environment

    prepare_environment()
    from prefect.client.orchestration import get_client
    from prefect.states import Crashed

    with get_client(sync_client=True) as client:
        running = _running(client)
        gone = _gone(running)
        lost = [run for run in running if str(run.id) in gone]
        for run in lost:
            client.set_flow_run_state(run.id, Crashed(message="the process ended without a word to Prefect"), force=True)
    return [run.name for run in lost]


def _running(client: SyncPrefectClient) -> list[FlowRun]:
    from prefect.client.schemas.filters import FlowFilter, FlowRunFilter

    flows = FlowFilter.model_validate({"name": {"like_": "softprompt-"}})
    return client.read_flow_runs(
        flow_filter=flows, flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING"]}}})
    )


def _gone(running: list[FlowRun]) -> set[str]:
    """Ids of those flow runs whose MLflow run says that the lifecycle is over."""
    from softprompt_core import registry
    from softprompt_core.stages import record

    return registry.finished_flow_runs(record.client(), [str(run.id) for run in running])


def _last_heartbeat(client: SyncPrefectClient, run: FlowRun) -> datetime | None:
    """When a flow run last gave a sign of life; None if it never did: then nothing follows from its silence."""
    wanted = {"event": {"name": [_HEARTBEAT]}, "any_resource": {"id": [f"prefect.flow-run.{run.id}"]}, "order": "DESC"}
    events = client.request("POST", "/events/filter", json={"filter": wanted, "limit": 1}).json()["events"]
    return datetime.fromisoformat(events[0]["occurred"]) if events else None


def _last_sign(client: MlflowClient, run: Run) -> datetime:
    """When the last metric of a run was measured; when it began, if it has none."""
    key = next(iter(sorted(run.data.metrics)), None)
    history = client.get_metric_history(run.info.run_id, key) if key else []
    return _moment(max([one.timestamp for one in history], default=run.info.start_time))


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
