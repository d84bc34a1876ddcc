"""Train the soft prompts of all seeds together; a finished training of the same inputs is taken from Prefect's cache."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext

from softprompt_core.spec import PromptSpec
from softprompt_core.stages import training
from softprompt_core.stages.inputs import Inputs
from softprompt_core.stages.training import Trained, train_seeds
from tasks.progress import training_progress


@task(name="check", cache_policy=NO_CACHE, task_run_name="check: {spec.name}")
def check(spec: PromptSpec, inputs: Inputs, champion: str | None) -> None:
    """Whether a training can start; asked before anything is written to MLflow."""
    training.check(spec, inputs, Path(champion) if champion else None)


def cache_key(context: TaskRunContext, parameters: dict[str, Any]) -> str | None:
    """Data, spec (with its seeds), base and library source: all are in the training fingerprint.

    Prefect's own policies hash the task's source but not what it imports, and so serve stale results after the library changed.
    """
    if parameters["spec"].prompt.init == "champion":
        return None  # the champion that training starts from is no part of the fingerprint
    return f"softprompt-train-{parameters['inputs'].training}"


@task(
    name="train",
    cache_key_fn=cache_key,
    persist_result=True,
    result_serializer="json",
    task_run_name="train: {spec.name}",
)
def _train(spec: PromptSpec, inputs: Inputs, champion: str | None) -> list[dict[str, Any]]:
    with training_progress(spec.name) as on_progress:
        trained = train_seeds(spec, inputs, champion=Path(champion) if champion else None, on_progress=on_progress)
    return [asdict(one) for one in trained]


def train(spec: PromptSpec, inputs: Inputs, champion: str | None) -> list[Trained]:
    """Run the task; a cached result whose files were deleted is computed again."""
    place = inputs.workspace
    seeds = range(spec.training.seed, spec.training.seed + spec.training.seeds)
    files = all(place.prompt(seed).exists() and place.training(seed).exists() for seed in seeds)
    found = [Trained(**one) for one in _train.with_options(refresh_cache=not files)(spec, inputs, champion)]
    # A cached result names the files as they lay where it was made, which may be another machine or home.
    return [replace(one, prompt=str(place.prompt(one.seed)), facts=str(place.training(one.seed))) for one in found]
