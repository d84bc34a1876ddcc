"""A sweep as a Prefect flow: ``softprompt_core.operations.sweep.run_sweep`` with each step as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.final_states import call_flow, final_state, report
from flows.results import MLFLOW_RUN, current_flow_run, show_link, show_markdown
from flows.servers.prefect_server import await_server
from softprompt_core.errors import Outcome
from softprompt_core.lifecycle.tracking.flow_run import FlowRun
from softprompt_core.lifecycle.tracking.tracked_run import TrackedRun
from softprompt_core.operations.sweep.choice import SweepResult
from softprompt_core.operations.sweep.points import SweepPoint
from softprompt_core.operations.sweep.run import SweepSteps, run_sweep
from softprompt_core.operations.sweep.tracking import describe
from softprompt_core.spec.grid import MAX_POINTS
from softprompt_core.store.connection import Store
from tasks.sweeping import prefect_sweep_steps


@flow(name="softprompt-sweep", validate_parameters=False)
def sweep(
    spec: dict[str, Any] | str,
    grid: dict[str, list[Any]],
    max_points: int = MAX_POINTS,
    one_standard_error: bool = False,
    ray: bool = False,
) -> State[Any]:
    """Train every combination of a grid's values and say which is best on validation.

    Args:
        spec: what all points have in common: plain data, or the path of a YAML file that the worker can read.
        grid: dotted key of the spec → values, like {"prompt.length": [1, 5, 20]}.
        max_points: more combinations are refused.
        one_standard_error: choose the shortest prompt within one standard error of the best, not the best.
        ray: spread the points over the Ray cluster that the settings name.
    """
    steps = _with_link(prefect_sweep_steps(ray=ray))
    result = run_sweep(
        spec,
        grid,
        max_points=max_points,
        one_standard_error=one_standard_error,
        steps=steps,
        flow_run=current_flow_run(),
    )
    report([result])
    await_server()
    if result.points:
        show_markdown("sweep", describe(result), result.reason[:200])
    name = result.outcome.state_name if result.outcome else "Swept"
    return final_state(name, result.reason, result, failed=result.outcome is not None)


def _with_link(steps: SweepSteps) -> SweepSteps:
    """The same steps; the MLflow run is shown in Prefect's pages as soon as it is there."""

    def open_sweep(store: Store, points: Sequence[SweepPoint], identity: str, flow_run: FlowRun | None) -> TrackedRun:
        run = steps.open(store, points, identity, flow_run)
        show_link(MLFLOW_RUN, run.url, "MLflow run of the sweep", "All points below it")
        return run

    return replace(steps, open=open_sweep)


def run_sweep_flow(
    spec: Path, grid: Mapping[str, Sequence[Any]], *, max_points: int, one_standard_error: bool, ray: bool
) -> SweepResult:
    """Run the flow and take its result from the final state."""
    values = {key: list(axis) for key, axis in grid.items()}
    results: list[SweepResult] = call_flow(
        lambda: sweep(str(spec), values, max_points, one_standard_error, ray, return_state=True)
    )
    if results:
        return results[0]
    reason = "the Prefect server stopped answering before the sweep began\n  → start it, then run the sweep again"
    return SweepResult(task=spec.stem, outcome=Outcome.UNAVAILABLE, reason=reason)
