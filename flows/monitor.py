"""Check the health of champions: a verdict on each in MLflow, and an event in Prefect that an automation can act on.

Nothing is promoted or trained here: what a degraded champion leads to, people or automations of theirs decide.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.events.worker import EventsWorker
from prefect.states import Completed

from flows.final_states import call_flow, report
from flows.results import current_flow_run, show_markdown
from flows.servers.prefect_server import await_server, server_answers
from softprompt_core.errors import Health
from softprompt_core.operations.monitor import HealthResult, describe
from softprompt_core.spec import load_spec, names_spec_file
from softprompt_core.spec.monitor import MonitorSpec
from softprompt_core.store.failures import in_brief
from tasks.monitoring import check_champion

EVENT = "softprompt.champion."
"""Followed by ``healthy``, ``degraded`` or ``unknown``."""


@flow(name="softprompt-monitor", validate_parameters=False)
def monitor(
    targets: list[str],
    data: list[str] | None = None,
    margin: float | None = None,
    confidence: float | None = None,
    min_rows: int | None = None,
) -> State[Any]:
    """Check the champions of several tasks; one that cannot be checked does not stop the others.

    Args:
        targets: names of tasks, or paths of their specs. A spec's `monitor` section takes the place of the one that the champion
            was registered with.
        data: files of fresh rows, in place of the spec's `monitor.data`.
        margin: in place of `monitor.margin`; likewise `confidence` and `min_rows`.
    """
    changes: dict[str, Any] = dict(data=tuple(data) if data else None, margin=margin, confidence=confidence, min_rows=min_rows)
    changes = {key: value for key, value in changes.items() if value is not None}
    results = [_check(target, changes) for target in targets]
    message = ", ".join(f"{result.task}: {result.health.value}" for result in results)
    worst = max((result.health for result in results), key=lambda health: health.exit_code, default=Health.HEALTHY)
    report(results)
    await_server()
    if results:
        show_markdown("champion-health", "\n".join(map(describe, results)), message[:200])
    # The flow has done its work whatever it found: a failed state would mean that nobody looked.
    return Completed(name=worst.value.capitalize(), message=message, data=results)


def resolve(target: str) -> tuple[str, str | None, MonitorSpec | None]:
    """Task, spec file and settings that a target stands for.

    Raises:
        InvalidInput: a spec that cannot be read.
    """
    if not names_spec_file(target):
        return target, None, None
    spec = load_spec(target)
    return spec.name, str(Path(target).absolute()), spec.monitor


def _check(target: str, changes: dict[str, Any]) -> HealthResult:
    name = target
    try:
        name, spec, settings = resolve(target)
        result = check_champion(name, settings, changes, current_flow_run())
    except Exception as error:
        return HealthResult.failed(name, error)
    try:
        _emit(result, spec)
    except Exception as error:  # the verdict is in MLflow, and the other champions are to be looked at
        print(f"Prefect was not told about {name}: {type(error).__name__}: {in_brief(error)}", file=sys.stderr)
    return result


def _emit(result: HealthResult, spec: str | None) -> None:
    """Emit the event. ``spec`` in its payload is what the lifecycle's deployment takes as its parameter."""
    if not server_answers():
        return  # the verdict is in MLflow; waiting for the event to leave would have no end
    emit_event(
        event=f"{EVENT}{result.health.value}",
        resource={
            "prefect.resource.id": f"softprompt.champion.{result.task}",
            "prefect.resource.name": result.task,
            "softprompt.version": str(result.version or ""),
        },
        payload={
            "task": result.task,
            "spec": spec,
            "reason": result.reason,
            "mlflow_run": result.run_url,
            "version": result.version,
        },
    )
    # Events leave in the background; a command that ends now would take them with it.
    EventsWorker.instance().wait_until_empty()


def run_monitor(targets: list[str], data: list[str], **settings: float | int | None) -> list[HealthResult]:
    """Run the flow and take one result a target from its final state."""
    return call_flow(lambda: monitor(targets, data or None, **settings, return_state=True))
