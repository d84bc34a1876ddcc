"""A sweep: many settings of one task, trained together and compared on its validation rows. Nothing is registered.

A point's training is that of ``softprompt run`` with the same settings, so what is trained here is not trained there again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.client.schemas.objects import State

from flows.handover import MLFLOW_RUN, final_state, found_in
from flows.lifecycle import failure, prefect_url
from softprompt_core.errors import Outcome
from softprompt_core.spec import PromptSpec, load_spec, parse_spec
from softprompt_core.spec.grid import MAX_POINTS, GridPoint, grid_points
from softprompt_core.stages import record, sweep_record, sweeping
from softprompt_core.stages.inputs import Inputs
from softprompt_core.stages.sweep_choice import PointResult, SweepResult, choose
from softprompt_core.stages.trained import Trained
from tasks.sweeping import check_points, close_sweep, log_point, open_sweep, prepare_points, train_group


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
    result = run_points(spec, grid, max_points=max_points, one_standard_error=one_standard_error, ray=ray)
    if result.points:
        create_markdown_artifact(sweep_record.describe(result), key="sweep", description=result.reason[:200])
    name = result.outcome.state_name if result.outcome else "Swept"
    return final_state(name, result.reason, result.to_json(), failed=result.outcome is not None)


def run_points(
    given: dict[str, Any] | str,
    grid: Mapping[str, Sequence[Any]],
    *,
    max_points: int,
    one_standard_error: bool,
    ray: bool = False,
) -> SweepResult:
    """The flow's body; a mistake and whatever else stops it become an outcome."""
    began = time.monotonic()
    name = given.get("name", "?") if isinstance(given, dict) else Path(given).stem
    try:
        spec, folder = (parse_spec(given), None) if isinstance(given, dict) else (load_spec(given), Path(given).parent)
        name = spec.name
        points = grid_points(spec, grid, folder=folder, max_points=max_points)
        record.client()
        result = _swept(points, prepare_points(points), frugally=one_standard_error, ray=ray)
    except Exception as error:
        outcome, reason = failure(error)
        result = SweepResult(name, outcome, reason)
    return replace(result, seconds=round(time.monotonic() - began, 1), prefect_url=prefect_url())


def _swept(points: list[GridPoint], inputs: list[Inputs], *, frugally: bool, ray: bool) -> SweepResult:
    champion = _champion(points, inputs)
    rows = check_points(points, inputs, champion)
    client, identity = record.client(), sweep_record.identity(inputs, champion)
    known = sweep_record.finished_run(client, points[0].spec.name, identity)
    experiment, run_id = known or open_sweep(points, inputs, identity, runtime.flow_run.get_id())
    url = record.run_url(experiment, run_id)
    create_link_artifact(link=url, key=MLFLOW_RUN, link_text="MLflow run of the sweep", description="All points below it")
    try:
        found: dict[int, PointResult] = {}
        # Spread out, every point is a group of its own.
        for group in [list(range(len(points)))] if ray else sweeping.groups(points, inputs):
            trained = train_group([points[place] for place in group], [inputs[place] for place in group], champion, ray)
            for place, (prompts, reason) in zip(group, trained, strict=True):
                seeds = [Trained(**one) for one in prompts]
                found[place] = PointResult.of(points[place], seeds, reason)
                if known is None:
                    log_point(experiment, run_id, points[place], inputs[place], seeds, found[place])
        result = _result(points, [found[place] for place in range(len(points))], rows, frugally=frugally)
        if known is None:
            close_sweep(run_id, result, points)
    except BaseException:
        if known is None:
            with suppress(Exception):  # the store may be what failed; the first error must not be hidden
                client.set_terminated(run_id, "FAILED")
        raise
    return replace(result, run_id=run_id, run_url=url)


def _result(points: list[GridPoint], found: list[PointResult], rows: int, *, frugally: bool) -> SweepResult:
    spec = points[0].spec
    metric, chosen = sweep_record.metric_name(spec), choose(found)
    if chosen is None:
        reason = f"no point gave a finite prompt: {found[0].reason}"
        return SweepResult(spec.name, Outcome.DIVERGED, reason, metric=metric, rows=rows, points=found)
    best, frugal = chosen
    taken = frugal if frugally else best
    top = found[best]
    reason = f"Best on validation: {top.name} ({metric} {top.metric:.4g})."
    written = points[taken].spec.model_dump(mode="json")
    return SweepResult(spec.name, None, reason, metric, rows, found, best, frugal, taken, written)


def _champion(points: list[GridPoint], inputs: list[Inputs]) -> str | None:
    """Folder of the champion's version, where a point starts from it."""
    if all(point.spec.prompt.init != "champion" for point in points):
        return None
    return record.champion(points[0].spec.name, inputs[0].workspace.folder)[0]


def run_sweep(
    spec: PromptSpec | Path,
    grid: Mapping[str, Sequence[Any]],
    *,
    max_points: int = MAX_POINTS,
    one_standard_error: bool = False,
    ray: bool = False,
) -> SweepResult:
    """Run the flow and take its result from the final state."""
    given = spec.model_dump(mode="json") if isinstance(spec, PromptSpec) else str(spec)
    values = {key: list(some) for key, some in grid.items()}
    state = sweep(given, values, max_points, one_standard_error, ray, return_state=True)
    return SweepResult.from_json(found_in(state))
