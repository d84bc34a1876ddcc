"""The curve of a training in MLflow: while it grows, and whole when the training has ended."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from softprompt_core import settings
from softprompt_core.lifecycle.resolve import ResolvedTask
from softprompt_core.lifecycle.tracking.gate_report import curve_figure, validation_metric
from softprompt_core.lifecycle.tracking.tracked_run import TrackedRun
from softprompt_core.lifecycle.trained import TrainedSeed
from softprompt_core.store import flushing, run_contents, runs, tags
from softprompt_core.store.connection import Store
from softprompt_core.store.metric_buffer import MetricBuffer

if TYPE_CHECKING:
    from softprompt_core.lifecycle.train import OnCheck

_NAMES = {
    "loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "prompt_norm": "train/prompt_norm",
    "validation_loss": "validation/loss",
    "validation_error": "validation/standard_error",
}


@contextmanager
def live_curves(task: ResolvedTask, store: Store, seed_runs: Mapping[int, str]) -> Iterator[OnCheck]:
    """Show the curves of a training in MLflow while it lasts. Neither MLflow nor a full disk stops or slows the training: what
    does not arrive is delivered later.

    Args:
        seed_runs: seed → run.

    Yields:
        What gives, for a seed, the function that takes the entries of its history.
    """
    buffers = {seed: MetricBuffer(store.addresses, run_id, task.name) for seed, run_id in seed_runs.items()}
    warned = False

    def of_seed(seed: int) -> Callable[[Mapping[str, float]], None]:
        return partial(keep, buffers[seed])

    def keep(buffer: MetricBuffer, entry: Mapping[str, float]) -> None:
        nonlocal warned
        try:
            _add(task, buffer, entry)
        except OSError as error:
            if not warned:
                warnings.warn(f"metrics cannot be kept while training goes on: {error}", RuntimeWarning, stacklevel=2)
            warned = True

    with flushing.BufferFlusher(store, list(buffers.values())):
        yield of_seed


def log_training(task: ResolvedTask, store: Store, run: TrackedRun, seeds: Sequence[TrainedSeed], candidate: TrainedSeed) -> None:
    """The candidate's curve on the run; with several seeds, each one's on its child run, which is closed: FAILED for a seed that
    diverged.

    Raises:
        OSError: the disk is full.
        Unavailable: MLflow has not answered for ``server_wait_s`` seconds; the curve is kept for the next one that it answers.
    """
    _log_seed(task, store, run.id, candidate)
    trained = {seed.seed: seed for seed in seeds}
    for number, child in run.seeds.items():
        if child == run.id:
            continue
        ending = runs.FAILED.model_copy(update={"tags": runs.renamed(f"seed {number} diverged")})
        if number in trained:
            _log_seed(task, store, child, trained[number])
            ending = runs.FINISHED.model_copy(update={"tags": runs.renamed(f"seed {number} {trained[number].metric:.3f}")})
        flushing.close(store, child, task.name, ending)


def _log_seed(task: ResolvedTask, store: Store, run_id: str, seed: TrainedSeed) -> None:
    """The training curve of one seed, as far as MLflow does not have it yet, with settings and figure."""
    record = seed.read_record()
    buffer = MetricBuffer(store.addresses, run_id, task.name)
    for entry in record["history"]:
        _add(task, buffer, entry)
    buffer.add(0, {"train/seconds": record["seconds"], "train/steps": record["steps"], "train/best_step": record["best_step"]})
    flushing.flush_within(store, buffer, settings.current().server_wait_s)

    def log_settings() -> None:
        if record["slow_path"]:
            store.client.set_tag(run_id, tags.SLOW_PATH, tags.shortened(record["slow_path"], tags.RUN_TAG_LIMIT))
        run_contents.log_params(store, run_id, {f"effective.{key}": value for key, value in record["settings"].items()})
        run_contents.log_figure(store, run_id, curve_figure(seed, validation_metric(task.spec)), "training/curve.png")

    store.retry(log_settings)


def _add(task: ResolvedTask, buffer: MetricBuffer, entry: Mapping[str, float | None]) -> None:
    """One entry of a training's history, under the names that it has in MLflow; NaN and None are left out."""
    names = {**_NAMES, "validation_metric": f"validation/{validation_metric(task.spec)}"}
    values = {names.get(key, key): value for key, value in entry.items() if key != "step" and value == value}
    buffer.add(int(entry["step"] or 0), values)
