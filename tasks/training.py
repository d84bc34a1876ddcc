"""Train the soft prompts of all seeds, together or on several workers, with progress on the terminal."""

from __future__ import annotations

from collections.abc import Callable

from softprompt_core.errors import Diverged, SoftpromptError
from softprompt_core.lifecycle import steps
from softprompt_core.lifecycle.champion import Champion
from softprompt_core.lifecycle.resolve import ResolvedTask
from softprompt_core.lifecycle.tracking.tracked_run import TrackedRun
from softprompt_core.lifecycle.trained import TrainedSeed
from softprompt_core.store.connection import Store
from tasks.ray_pool import Item, fan_out

TrainTask = Callable[[ResolvedTask, Store, TrackedRun | None, Champion | None], list[TrainedSeed]]


def train_task(spread_seeds: bool) -> TrainTask:
    """The training step: all seeds together in this process, or each on some worker of the Ray cluster."""

    def train(task: ResolvedTask, store: Store, run: TrackedRun | None, champion: Champion | None) -> list[TrainedSeed]:
        if spread_seeds and len(task.seeds) > 1:
            return _spread(task, run, champion)
        return steps.train_task(task, store, run, champion)

    return train


def _train_seed(task: ResolvedTask, run: TrackedRun | None, champion: Champion | None, seed: int) -> list[TrainedSeed]:
    return steps.train_task(task, Store.connect(), run, champion, seeds=[seed])


def _spread(task: ResolvedTask, run: TrackedRun | None, champion: Champion | None) -> list[TrainedSeed]:
    """Each seed on a worker of the Ray cluster that has room for one; this process, a worker itself, trains some too."""
    base = task.spec.base_model.model_dump_json()
    items = [Item(f"{task.name} seed {seed}", base, (task, run, champion, seed)) for seed in task.seeds]
    results = fan_out(_train_seed, items, take_part=True)
    for result in results:
        if isinstance(result, SoftpromptError) and not isinstance(result, Diverged):
            raise result
    trained = [seed for result in results if not isinstance(result, Diverged) for seed in result]
    if not trained:
        raise next(result for result in results if isinstance(result, Diverged))
    return trained
