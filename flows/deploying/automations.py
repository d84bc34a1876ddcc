"""Prefect automations of an environment: crashed runs are closed; a degraded champion starts its task's lifecycle."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.server.schemas.states import StateType

from flows.deploying.wanted import OURS, Wanted, environment_tag

_MISSED = 3  # heartbeats in a row; one may be late on a busy machine


def close_crashed(environment: str, heartbeat_seconds: int) -> AutomationCore:
    """A run of this environment that falls silent without having ended becomes Crashed, and frees its place.

    Prefect's documentation expects the names of final states here. Ours are outcomes (`Promoted`, `Rejected`, …), so any event of
    the run counts as a sign of life.
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


def retrain(environment: str, wanted: Wanted, deployment: UUID) -> AutomationCore:
    """`deployments/automations/retrain-when-degraded.yaml` for one task."""
    return AutomationCore(
        name=f"{retrain_prefix(environment)}{wanted.task}",
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


def retrain_prefix(environment: str) -> str:
    return f"{OURS} {environment}: retrain "
