"""The curve of a training in MLflow: while it grows, and whole when the training has ended."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from softprompt_core import registry, settings
from softprompt_core.registry import tags
from softprompt_core.spec import PromptSpec
from softprompt_core.stages import record
from softprompt_core.stages.gate_report import curve_figure
from softprompt_core.stages.record import patient, stores
from softprompt_core.stages.trained import Trained, facts

if TYPE_CHECKING:
    from mlflow import MlflowClient

_CURVES = {
    "loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "prompt_norm": "train/prompt_norm",
    "validation_loss": "validation/loss",
    "validation_error": "validation/standard_error",
}


def open_seeds(client: MlflowClient, spec: PromptSpec, experiment: str, run_id: str) -> dict[int, str]:
    """Seed → the run that shows its curve: the lifecycle's own, or with several seeds a child run each."""
    first = spec.training.seed
    if spec.training.seeds == 1:
        return {first: run_id}
    seeds = range(first, first + spec.training.seeds)
    return {
        seed: registry.start_run(client, experiment, f"seed {seed}", {tags.TASK: spec.name}, parent_run_id=run_id)
        for seed in seeds
    }


@contextmanager
def live(spec: PromptSpec, runs: Mapping[int, str]) -> Iterator[Callable[[int], Callable[[Mapping[str, float]], None]] | None]:
    """Show the curves of a training in MLflow while it lasts. Neither MLflow nor a full disk stops or slows the training: what
    does not arrive is delivered later.

    Args:
        runs: seed → run.

    Yields:
        What gives, for a seed, the function that takes the entries of its history; None without runs.
    """
    if not runs:
        yield None
        return
    spools = {seed: registry.Spool(stores(), run_id, spec.name) for seed, run_id in runs.items()}

    warned = False

    def of_seed(seed: int) -> Callable[[Mapping[str, float]], None]:
        def keep(entry: Mapping[str, float]) -> None:
            nonlocal warned
            try:
                _spool(spools[seed], entry, spec.is_classification)
            except OSError as error:
                if not warned:
                    warnings.warn(f"metrics cannot be kept while training goes on: {error}", RuntimeWarning, stacklevel=2)
                warned = True

        return keep

    with registry.Deliverer(record.client(), list(spools.values())):
        yield of_seed


def _spool(spool: registry.Spool, entry: Mapping[str, float | None], classification: bool) -> None:
    """One entry of a training's history, under the names that it has in MLflow; NaN and None are left out."""
    named = {**_CURVES, "validation_metric": f"validation/{_metric(classification)}"}
    values = {named.get(key, key): value for key, value in entry.items() if key != "step" and value == value}
    spool.add(int(entry["step"] or 0), values)


def _metric(classification: bool) -> str:
    return "accuracy" if classification else "negative_loss"


def log_seeds(
    client: MlflowClient, spec: PromptSpec, run_id: str, runs: Mapping[int, str], trained: Sequence[Trained], chosen: Trained
) -> None:
    """The chosen seed's curve on the run; with several seeds, each one's on the child run that ``open_seeds`` made for it. Child
    runs are closed, FAILED for a seed that diverged. Raises as ``log_training``."""
    log_training(client, spec, run_id, chosen)
    of_seed = {one.seed: one for one in trained}
    for seed, child in runs.items():
        if child == run_id:
            continue
        if seed in of_seed:
            log_training(client, spec, child, of_seed[seed])
        how = registry.FINISHED if seed in of_seed else registry.FAILED
        registry.close(client, stores(), child, spec.name, how)


def log_training(client: MlflowClient, spec: PromptSpec, run_id: str, trained: Trained) -> None:
    """The training curve of one seed, as far as MLflow does not have it yet, with settings and figure.

    Raises:
        OSError: the disk is full.
        Unavailable: MLflow has not answered for ``server_wait_s`` seconds; the curve is kept for the next one that it answers.
    """
    found = facts(trained)
    spool = registry.Spool(stores(), run_id, spec.name)
    for entry in found["history"]:
        _spool(spool, entry, spec.is_classification)
    spool.add(0, {"train/seconds": found["seconds"], "train/steps": found["steps"], "train/best_step": found["best_step"]})
    registry.deliver_within(client, stores(), spool, settings.current().server_wait_s)
    _log_settings(client, run_id, trained, found, _metric(spec.is_classification))


@patient
def _log_settings(client: MlflowClient, run_id: str, trained: Trained, found: Mapping[str, Any], metric: str) -> None:
    if found["slow_path"]:
        client.set_tag(run_id, tags.SLOW_PATH, tags.shortened(found["slow_path"], tags.RUN_TAG_LIMIT))
    registry.log_params(client, run_id, {f"effective.{key}": value for key, value in found["settings"].items()})
    registry.log_figure(client, run_id, curve_figure(trained, metric), "training/curve.png")
