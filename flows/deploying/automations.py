"""The automation of an environment: crashed runs are closed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.server.schemas.states import StateType

from flows.deploying.deployments import PAGE
from flows.deploying.desired import OWNED, Change, environment_tag

_MISSED = 3  # heartbeats in a row; one may be late on a busy machine


def close_crashed(environment: str, heartbeat_seconds: int) -> AutomationCore:
    """A run of this environment that sends no heartbeat without having ended becomes Crashed, and frees its place.

    Prefect's documentation expects the names of final states here. Ours are outcomes (`Promoted`, `Rejected`, …), so any event of
    the run counts as a heartbeat. Should the server's triggers see an end too late, nothing happens: without ``force`` a run
    that has ended keeps its state.
    """
    return AutomationCore(
        name=f"{OWNED} {environment}: close crashed runs",
        description=f"A run that sends no heartbeat for {_MISSED * heartbeat_seconds} s is Crashed. Made by `softprompt deploy`.",
        tags=[OWNED, environment_tag(environment)],
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


def apply(client: SyncPrefectClient, environment: str, heartbeat_seconds: int, dry_run: bool) -> Iterator[Change]:
    """Create or update the automation; remove those that earlier releases made to retrain degraded champions."""
    desired = close_crashed(environment, heartbeat_seconds)
    current = {each.name: each for each in _existing(client) if {OWNED, environment_tag(environment)} <= set(each.tags)}
    yield _apply(client, desired, current.get(desired.name), dry_run)
    for name, automation in current.items():
        if name.startswith(f"{OWNED} {environment}: retrain "):
            if not dry_run:
                client.delete_automation(automation.id)
            yield Change("automation", name, "removed", "a run on unchanged data trains nothing")


def _existing(client: SyncPrefectClient) -> list[Automation]:
    automations: list[Automation] = []
    while page := client.read_automations(limit=PAGE, offset=len(automations)):
        automations += page
    return automations


def _apply(client: SyncPrefectClient, desired: AutomationCore, current: Automation | None, dry_run: bool) -> Change:
    if current is None:
        if not dry_run:
            client.create_automation(desired)
        return Change("automation", desired.name, "created")
    desired.enabled = current.enabled  # one that somebody switched off by hand stays so
    detail = "" if current.enabled else "switched off by hand"
    if AutomationCore.model_validate(current.model_dump()) == desired:
        return Change("automation", desired.name, "unchanged", detail)
    if not dry_run:
        client.update_automation(current.id, desired)
    return Change("automation", desired.name, "updated", detail)
