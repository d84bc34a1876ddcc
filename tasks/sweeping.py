"""The steps of a sweep as Prefect tasks; points are trained together in groups, or each on some worker of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from softprompt_core.errors import SoftpromptError
from softprompt_core.lifecycle.progress import furthest, training_progress
from softprompt_core.lifecycle.resolve import ResolvedTask
from softprompt_core.operations.sweep import tracking
from softprompt_core.operations.sweep.points import SweepPoint, TrainedPoint, check_points, resolve_points, train_points
from softprompt_core.operations.sweep.run import SweepSteps
from tasks.lifecycle import as_task
from tasks.ray_pool import Item, fan_out

if TYPE_CHECKING:
    from softprompt_core.training import Progress


def prefect_sweep_steps(*, ray: bool) -> SweepSteps:
    """The sweep's steps as tasks of the flow that this is called in.

    Args:
        ray: each point on a worker of the Ray cluster, instead of all of a group together in this process.
    """
    return SweepSteps(
        resolve=as_task("resolve points", resolve_points, "resolve points"),
        check=as_task("check points", check_points, "check points"),
        open=as_task("open sweep", tracking.open_sweep, "open sweep"),
        train=as_task("train group", _spread if ray else _train_here, "train group"),
        log_point=as_task("log point", tracking.log_point, "log {point.name}"),
        close=as_task("close sweep", tracking.close_sweep, "close sweep"),
        apart=ray,
    )


def _train_here(points: Sequence[SweepPoint], champion: Path | None) -> list[TrainedPoint]:
    with training_progress() as display:
        show = furthest(display(f"{points[0].task.name}, {len(points)} point{'s' if len(points) > 1 else ''}"))

        def on_progress(task: ResolvedTask, seed: int) -> Callable[[Progress], None]:
            return show

        return train_points(points, champion, on_progress)


def _spread(points: Sequence[SweepPoint], champion: Path | None) -> list[TrainedPoint]:
    items = [
        Item(f"{point.task.name}, {point.name}", point.task.spec.base_model.model_dump_json(), ([point], champion))
        for point in points
    ]
    results = fan_out(_train_here, items)
    for result in results:
        if isinstance(result, SoftpromptError):
            raise result
    return [trained for result in results for trained in result]
