"""The points of a sweep, made ready and trained: together in groups, or each on some worker of a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from softprompt_core.errors import SoftpromptError
from softprompt_core.spec import PromptSpec
from softprompt_core.spec.grid import GridPoint
from softprompt_core.stages import record, sweep_record, sweeping
from softprompt_core.stages.inputs import Inputs
from softprompt_core.stages.sweep_choice import PointResult, SweepResult
from softprompt_core.stages.trained import Trained
from tasks.fan_out import Item, fan_out
from tasks.progress import furthest, training_progress
from tasks.training import prompt_file

_Found = tuple[list[dict[str, Any]], str]


@task(name="prepare points", cache_policy=NO_CACHE)
def prepare_points(points: Sequence[GridPoint]) -> list[Inputs]:
    return sweeping.prepare(points)


@task(name="check points", cache_policy=NO_CACHE)
def check_points(points: Sequence[GridPoint], inputs: Sequence[Inputs], champion: str | None) -> int:
    """Whether every point can train; asked before anything is written to MLflow. Returns the number of validation rows."""
    return sweeping.check(points, inputs, prompt_file(champion))


@task(name="train group", cache_policy=NO_CACHE)
def train_group(points: Sequence[GridPoint], inputs: Sequence[Inputs], champion: str | None, ray: bool = False) -> list[_Found]:
    """Train points of one group. What is finished, here or in an earlier run, is found and not trained again.

    Args:
        ray: each point on a worker of the Ray cluster, instead of all together in this process.

    Returns:
        For each point its finite prompts (``Trained`` as plain data) and, where there are none, the reason.
    """
    if not ray:
        return _train_here([point.spec for point in points], inputs, champion)
    items = [
        Item(f"{point.spec.name}, {point.name}", point.spec.base_model.model_dump_json(), ([point.spec], [one], champion))
        for point, one in zip(points, inputs, strict=True)
    ]
    found = fan_out(_train_here, items)
    for problem in found:
        if isinstance(problem, SoftpromptError):
            raise problem
    return [one for result in found for one in result]


def _train_here(specs: Sequence[PromptSpec], inputs: Sequence[Inputs], champion: str | None) -> list[_Found]:
    with training_progress() as of:
        show = furthest(of(f"{specs[0].name}, {len(specs)} point{'s' if len(specs) > 1 else ''}"))
        found = sweeping.train_group(specs, inputs, prompt_file(champion), lambda place, seed: show)
    return [([asdict(one) for one in trained], reason) for trained, reason in found]


@task(name="open sweep", cache_policy=NO_CACHE)
def open_sweep(points: Sequence[GridPoint], inputs: Sequence[Inputs], sweep: str, prefect_run: str | None) -> tuple[str, str]:
    return sweep_record.open_sweep(record.client(), points, inputs, sweep, prefect_run)


@task(name="log point", cache_policy=NO_CACHE, task_run_name="log {point.name}")
def log_point(
    experiment: str, run_id: str, point: GridPoint, inputs: Inputs, trained: Sequence[Trained], result: PointResult
) -> None:
    sweep_record.log_point(record.client(), experiment, run_id, point, inputs, trained, result)


@task(name="close sweep", cache_policy=NO_CACHE)
def close_sweep(run_id: str, result: SweepResult, points: Sequence[GridPoint]) -> None:
    sweep_record.close_sweep(record.client(), run_id, result, sweeping.axes(points))
