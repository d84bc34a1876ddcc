"""What runs left that did not end as they should: dead runs, unsent metrics, incomplete versions, flow runs without a process."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from flows.doctor.findings import Finding, ok, warning
from softprompt_core import settings
from softprompt_core.decisions import settle
from softprompt_core.store import metric_buffer, processes, registration, runs, tags, versions
from softprompt_core.store.addresses import Addresses
from softprompt_core.store.connection import Store
from softprompt_core.store.reading import StoredRun, moment

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

_REPAIR = "`softprompt doctor --repair`"
_HEARTBEAT = "prefect.flow-run.heartbeat"
_LONG = timedelta(hours=6)  # no decision takes so long after a registration
_SILENCE = timedelta(minutes=10)  # heartbeats come every three minutes at most


def unsent_metrics() -> Iterator[Finding]:
    """Metrics that MLflow does not have yet. Told from files, so that it can be told while MLflow does not answer."""
    healthy = True
    for buffer in metric_buffer.buffers(Addresses.from_settings()):
        pending = buffer.pending()
        if not pending or (buffer.failing_since is None and not buffer.is_abandoned()):
            continue  # a training that delivers as it goes
        healthy = False
        parts = [f"{len(pending.rows)} rows of metrics"] if pending.rows else []
        parts += [f"its end ({pending.ending.tags.get(tags.OUTCOME, pending.ending.status)})"] if pending.ending else []
        since = f" since {_time(buffer.failing_since)}" if buffer.failing_since else ""
        why = buffer.failure or "its process is gone"
        message = f"{buffer.task} run {buffer.run_id}: {' and '.join(parts)} not delivered{since}: {why}"
        yield warning("metrics", message, f"{_REPAIR} delivers them once MLflow answers, and so does the next run")
    if healthy:
        yield ok("metrics", "nothing waits to be delivered")


def dead_runs(store: Store) -> Iterator[Finding]:
    """Runs whose process is gone, but those whose end is among the unsent metrics."""
    ended = {buffer.run_id for buffer in metric_buffer.buffers(store.addresses) if buffer.pending().ending}
    dead = [run for run in runs.killed_runs(store) if run.run_id not in ended]
    for run in dead:
        process = processes.describe(run.tags.get(tags.PROCESS, ""))
        message = f"{run.tags.get(tags.TASK, '?')} run {run.run_id} died: begun {_time(run.start_time)}"
        message += f", last sign {_time(_last_sign(store, run))}; {process}, is gone"
        do = f"run the task again, it goes on from its checkpoint; or {_REPAIR} ends the run as KILLED"
        yield warning("runs", message, do)
    if not dead:
        yield ok("runs", "none has died on this machine")


def unfinished_versions(store: Store) -> Iterator[Finding]:
    """Versions whose registration broke off, and versions that nobody will decide about."""
    healthy = True
    for incomplete in registration.incomplete_versions(store):
        healthy = False
        where = f"{incomplete.name} version {incomplete.version}"
        message = f"{where}: its registration broke off (run {incomplete.run_id}); no command sees it"
        do = f"{_REPAIR} deletes it, and so does the task's next registration"
        yield warning("registered", message, do)
    for version in versions.undecided(store):
        if runs.has_ended(store, version.run_id):
            healthy = False
            message = f"{version.name} version {version.version} is undecided: {settle.why_undecided(store, version)}"
            do = f"run the task again, which decides about it; or {_REPAIR} decides on the stored evidence, or withdraws it"
            yield warning("registered", message, do)
        elif datetime.now(UTC) - version.created > _LONG:
            healthy = False
            run = store.reader.run(version.run_id)
            process = processes.describe(run.tags.get(tags.PROCESS, "") if run else "")
            message = f"{version.name} version {version.version} is undecided since {_time(version.created)}; its run is RUNNING"
            do = f"look after {process}; if it is gone, end the run {version.run_id} in MLflow, then {_REPAIR}"
            yield warning("registered", message, do)
    if healthy:
        yield ok("registered", "no version is half made or undecided")


def lost_flow_runs(store: Store) -> Iterator[Finding]:
    """Flow runs that are Running on a Prefect server, but not in truth. Without a server of one's own there are none."""
    if not settings.current().prefect_api_url:
        return
    from prefect.client.orchestration import get_client

    healthy = True
    with get_client(sync_client=True) as client:
        running = _running(client)
        over = _over(store, running)
        for run in running:
            if str(run.id) in over:
                message = f"{run.name} is Running in Prefect, but its lifecycle is over"
                do = f"{_REPAIR} makes it Crashed"
            elif (sign := _last_heartbeat(client, run)) and datetime.now(UTC) - sign > _SILENCE:
                message = f"{run.name} is Running in Prefect, without a heartbeat since {_time(sign)}"
                do = "look at its worker; `softprompt deploy` has an automation for it"
            else:
                continue
            healthy = False
            yield warning("flow runs", message, do)
    if healthy:
        yield ok("flow runs", f"{len(running)} running, none without a process")


def crash_lost_flow_runs(store: Store) -> list[str]:
    """Give flow runs whose lifecycle is over the state Crashed; returns their names."""
    if not settings.current().prefect_api_url:
        return []
    from flows.environment import prepare_environment

    prepare_environment()
    from prefect.client.orchestration import get_client
    from prefect.states import Crashed

    with get_client(sync_client=True) as client:
        running = _running(client)
        over = _over(store, running)
        lost = [run for run in running if str(run.id) in over]
        for run in lost:
            client.set_flow_run_state(run.id, Crashed(message="the process ended without a word to Prefect"), force=True)
    return [run.name for run in lost]


def _running(client: SyncPrefectClient) -> list[FlowRun]:
    from prefect.client.schemas.filters import FlowFilter, FlowRunFilter

    ours = FlowFilter.model_validate({"name": {"like_": "softprompt-"}})
    running = FlowRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING"]}}})
    return client.read_flow_runs(flow_filter=ours, flow_run_filter=running)


def _over(store: Store, running: list[FlowRun]) -> set[str]:
    """Ids of those flow runs whose MLflow run says that the lifecycle is over."""
    return runs.finished_flow_runs(store, [str(run.id) for run in running])


def _last_heartbeat(client: SyncPrefectClient, run: FlowRun) -> datetime | None:
    """When a flow run last gave a sign of life; None if it never did: then nothing follows from its silence."""
    heartbeats = {"event": {"name": [_HEARTBEAT]}, "any_resource": {"id": [f"prefect.flow-run.{run.id}"]}, "order": "DESC"}
    events = client.request("POST", "/events/filter", json={"filter": heartbeats, "limit": 1}).json()["events"]
    return datetime.fromisoformat(events[0]["occurred"]) if events else None


def _last_sign(store: Store, run: StoredRun) -> datetime:
    """When the last metric of a run was measured; when it began, if it has none."""
    name = min(store.client.get_run(run.run_id).data.metrics, default=None)
    history = store.client.get_metric_history(run.run_id, name) if name else []
    return max([moment(metric.timestamp) for metric in history], default=run.start_time)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
