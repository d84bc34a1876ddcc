"""After downtime a schedule has many late runs of one task; the first that starts replaces the others."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled


def collapse_late_runs(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook for a flow's ``on_running``: cancel the scheduled runs of the same deployment whose time has come as well.

    The deployment's limit of one cancels only what starts at the same time; with few workers late runs would start one after the
    other. Runs that a person or a CI job asked for are left alone, and cancel nothing: their parameters may be others.
    """
    if flow_run.deployment_id is None or not flow_run.auto_scheduled:
        return
    due_filter = FlowRunFilter.model_validate(
        {
            "deployment_id": {"any_": [flow_run.deployment_id]},
            "state": {"name": {"any_": ["Scheduled", "Late"]}},
            "next_scheduled_start_time": {"before_": datetime.now(UTC)},
        }
    )
    with get_client(sync_client=True) as client:
        while late := [run for run in client.read_flow_runs(flow_run_filter=due_filter) if run.auto_scheduled]:
            for run in late:
                client.set_flow_run_state(run.id, Cancelled(message=f"late; run {flow_run.name} stands for it"), force=True)
