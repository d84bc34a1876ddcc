"""``run_sweep``: train every combination of a grid's values and say which is best on validation.

A point's training is that of ``run_task`` with the same settings, so what is trained here is not trained there again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softprompt_core.errors import Outcome
from softprompt_core.lifecycle.champion import fetch_champion
from softprompt_core.lifecycle.run import outcome_of, read_spec, task_name
from softprompt_core.lifecycle.steps import prompt_file
from softprompt_core.lifecycle.tracking.flow_run import FlowRun
from softprompt_core.lifecycle.tracking.gate_report import validation_metric
from softprompt_core.lifecycle.tracking.tracked_run import TrackedRun
from softprompt_core.operations.sweep import tracking
from softprompt_core.operations.sweep.choice import PointResult, SweepResult, choose
from softprompt_core.operations.sweep.points import (
    SweepPoint,
    TrainedPoint,
    check_points,
    groups,
    resolve_points,
    train_points,
)
from softprompt_core.spec import PromptSpec
from softprompt_core.spec.grid import MAX_POINTS, GridPoint, grid_points
from softprompt_core.store import runs
from softprompt_core.store.connection import Store


@dataclass(frozen=True)
class SweepSteps:
    """The functions that ``run_sweep`` calls, in order; Prefect's flow gives the same functions wrapped as tasks.

    Attributes:
        apart: every point is a group of its own, because ``train`` spreads them over workers.
    """

    resolve: Callable[[Sequence[GridPoint]], list[SweepPoint]] = resolve_points
    check: Callable[[Sequence[SweepPoint], Path | None], int] = check_points
    open: Callable[[Store, Sequence[SweepPoint], str, FlowRun | None], TrackedRun] = tracking.open_sweep
    train: Callable[[Sequence[SweepPoint], Path | None], list[TrainedPoint]] = train_points
    log_point: Callable[[Store, TrackedRun, SweepPoint, TrainedPoint, PointResult], None] = tracking.log_point
    close: Callable[[Store, TrackedRun, SweepResult, Sequence[SweepPoint]], None] = tracking.close_sweep
    apart: bool = False


def run_sweep(
    spec: PromptSpec | Mapping[str, Any] | str | Path,
    grid: Mapping[str, Sequence[Any]],
    *,
    max_points: int = MAX_POINTS,
    one_standard_error: bool = False,
    steps: SweepSteps | None = None,
    flow_run: FlowRun | None = None,
) -> SweepResult:
    """Sweep a grid. Raises nothing: every error is an outcome.

    Args:
        spec: what all points have in common.
        grid: dotted key of the spec → values, like ``{"prompt.length": [1, 5, 20]}``.
        max_points: more combinations are refused.
        one_standard_error: choose the shortest prompt within one standard error of the best, not the best.
    """
    began, name = time.monotonic(), task_name(spec)
    try:
        folder = Path(spec).parent if isinstance(spec, (str, Path)) else None
        parsed = read_spec(spec)
        name = parsed.name
        grid_of_specs = grid_points(parsed, grid, folder=folder, max_points=max_points)
        store, steps = Store.connect(), steps or SweepSteps()
        result = _sweep(store, steps.resolve(grid_of_specs), steps, flow_run, one_standard_error)
    except Exception as error:
        outcome, reason = outcome_of(error)
        result = SweepResult(task=name, outcome=outcome, reason=reason)
    url = flow_run.url if flow_run else None
    return result.model_copy(update=dict(seconds=round(time.monotonic() - began, 1), prefect_url=url))


def _sweep(
    store: Store, points: list[SweepPoint], steps: SweepSteps, flow_run: FlowRun | None, one_standard_error: bool
) -> SweepResult:
    champion = _champion_prompt(store, points)
    rows = steps.check(points, champion)
    identity = tracking.identity(points, champion)
    finished = tracking.finished_run(store, points[0].task.name, identity)
    run = finished or steps.open(store, points, identity, flow_run)
    try:
        results: dict[int, PointResult] = {}
        for group in [list(range(len(points)))] if steps.apart else groups(points):
            trained = steps.train([points[index] for index in group], champion)
            for index, seeds in zip(group, trained, strict=True):
                results[index] = PointResult.of(points[index].grid, seeds.seeds, seeds.reason)
                if finished is None:
                    steps.log_point(store, run, points[index], seeds, results[index])
        result = _chosen(points, [results[index] for index in range(len(points))], rows, one_standard_error)
        if finished is None:
            steps.close(store, run, result, points)
    except BaseException as error:
        if finished is None:
            with suppress(Exception):  # the store may be what failed; the first error must not be hidden
                runs.end(store, run.id, runs.ending_of(error))
        raise
    return result.model_copy(update=dict(run_id=run.id, run_url=run.url))


def _chosen(points: list[SweepPoint], results: list[PointResult], rows: int, one_standard_error: bool) -> SweepResult:
    spec = points[0].task.spec
    metric, choice = validation_metric(spec), choose(results)
    if choice is None:
        reason = f"no point gave a finite prompt: {results[0].reason}"
        return SweepResult(
            task=spec.name, outcome=Outcome.DIVERGED, reason=reason, metric=metric, rows=rows, points=tuple(results)
        )
    best, frugal = choice
    chosen = frugal if one_standard_error else best
    return SweepResult(
        task=spec.name,
        outcome=None,
        reason=f"Best on validation: {results[best].name} ({metric} {results[best].metric:.4g}).",
        metric=metric,
        rows=rows,
        points=tuple(results),
        best=best,
        frugal=frugal,
        chosen=chosen,
        spec=points[chosen].task.spec.model_dump(mode="json"),
    )


def _champion_prompt(store: Store, points: list[SweepPoint]) -> Path | None:
    """The champion's prompt file, where a point starts from it."""
    if all(point.task.spec.prompt.init != "champion" for point in points):
        return None
    return prompt_file(fetch_champion(points[0].task, store))
