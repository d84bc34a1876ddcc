"""Prefect automations of an environment: crashed runs are closed; a degraded champion starts its task's lifecycle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.server.schemas.states import StateType

from flows.deploying.environment import Environment
from flows.deploying.wanted import OURS, Change, Wanted, environment_tag

_MISSED = 3  # heartbeats in a row; one may be late on a busy machine


def close_crashed(environment: str, heartbeat_seconds: int) -> AutomationCore:
    """A run of this environment that falls silent without having ended becomes Crashed, and frees its place.

    Prefect's documentation expects the names of final states here. Ours are outcomes (`Promoted`, `Rejected`, …), so any event of
    the run counts as a sign of life. Should the server's triggers see an end too late, nothing happens: without ``force`` a run
    that has ended keeps its state.
    """
    return AutomationCore(
        name=f"{OURS} {environment}: close crashed runs",
        description=f"A run that sends no heartbeat for {_MISSED * heartbeat_seconds} s is Crashed. Made by `softprompt deploy`.",
        tags=[OURS, environment_tag(environment)],
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.*"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={
                "prefect.resource.role": "tag",
                "prefect.resource.id": f"prefect.tag.{environment_tag(environment)}",
            },
            for_each={"prefect.resource.id"},
            threshold=1,
            within=timedelta(seconds=_MISSED * heartbeat_seconds),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="no heartbeat: the process is gone")],
    )


def _retrain(environment: str, wanted: Wanted, deployment: UUID) -> AutomationCore:
    """`deployments/automations/retrain-when-degraded.yaml` for one task."""
    return AutomationCore(
        name=f"{_retrain_prefix(environment)}{wanted.task}",
        description="A degraded champion starts its task's lifecycle. Made by `softprompt deploy`.",
        tags=[OURS, environment_tag(environment)],
        trigger=EventTrigger(
            posture=Posture.Reactive,
            expect={"softprompt.champion.degraded"},
            match={"prefect.resource.id": f"softprompt.champion.{wanted.task}"},
            threshold=1,
            within=timedelta(0),
        ),
        actions=[RunDeployment(source="selected", deployment_id=deployment)],
    )


def _retrain_prefix(environment: str) -> str:
    return f"{OURS} {environment}: retrain "


def apply(
    client: SyncPrefectClient,
    name: str,
    environment: Environment,
    deployments: Sequence[Wanted],
    *,
    ids: Mapping[str, UUID],
    gone: set[UUID],
    existing: Iterable[Automation],
    dry_run: bool,
) -> Iterator[Change]:
    """Make the environment's automations be as wanted.

    Args:
        ids: of the environment's deployments, by name; in a dry run new ones are missing.
        gone: ids of deployments that this call removes; what starts them goes too.
        existing: all automations on the server; those without the environment's tags are left alone.
    """
    found = {each.name: each for each in existing if {OURS, environment_tag(name)} <= set(each.tags)}
    wanted = [close_crashed(name, environment.heartbeat_seconds)]
    prefix = _retrain_prefix(name)
    if environment.retrain_when_degraded:
        for one in deployments:
            if one.name in ids:
                wanted.append(_retrain(name, one, ids[one.name]))
            else:
                yield Change("automation", f"{prefix}{one.task}", "created")
    for core in wanted:
        yield _apply(client, core, found.pop(core.name, None), dry_run)
    for old in found.values():
        starts = {getattr(action, "deployment_id", None) for action in old.actions}
        if old.name.startswith(prefix) and (not environment.retrain_when_degraded or starts & gone):
            if not dry_run:
                client.delete_automation(old.id)
            yield Change("automation", old.name, "removed")


def _apply(client: SyncPrefectClient, wanted: AutomationCore, found: Automation | None, dry_run: bool) -> Change:
    if found is None:
        if not dry_run:
            client.create_automation(wanted)
        return Change("automation", wanted.name, "created")
    wanted.enabled = found.enabled  # whoever switched it off by hand wants it to stay so
    detail = "" if found.enabled else "switched off by hand"
    if AutomationCore.model_validate(found.model_dump()) == wanted:
        return Change("automation", wanted.name, "unchanged", detail)
    if not dry_run:
        client.update_automation(found.id, wanted)
    return Change("automation", wanted.name, "updated", detail)
