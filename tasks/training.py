"""Train the soft prompt of one seed; a finished training of the same inputs is taken from Prefect's cache."""

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
from softprompt_core.stages.training import Trained, train_seed
from tasks.progress import training_progress


@task(name="check", cache_policy=NO_CACHE, task_run_name="check: {spec.name}")
def check(spec: PromptSpec, inputs: Inputs, champion: str | None) -> None:
    """Whether a training can start; asked before anything is written to MLflow."""
    training.check(spec, inputs, Path(champion) if champion else None)


def cache_key(context: TaskRunContext, parameters: dict[str, Any]) -> str | None:
    """Data, spec, base and library source (all in the training fingerprint), and the seed.

    Prefect's own policies hash the task's source but not what it imports, and so serve stale results after the library changed.
    """
    if parameters["spec"].prompt.init == "champion":
        return None  # the champion that training starts from is no part of the fingerprint
    return f"softprompt-train-{parameters['inputs'].training}-{parameters['seed']}"


@task(
    name="train",
    cache_key_fn=cache_key,
    persist_result=True,
    result_serializer="json",
    task_run_name="train: {spec.name} seed {seed}",
)
def _train(spec: PromptSpec, inputs: Inputs, seed: int, champion: str | None) -> dict[str, Any]:
    with training_progress(f"{spec.name} seed {seed}") as on_progress:
        trained = train_seed(spec, inputs, seed, champion=Path(champion) if champion else None, on_progress=on_progress)
    return asdict(trained)


def train(spec: PromptSpec, inputs: Inputs, seed: int, champion: str | None) -> Trained:
    """Run the task; a cached result whose files were deleted is computed again."""
    prompt, facts = inputs.workspace.prompt(seed), inputs.workspace.training(seed)
    files = prompt.exists() and facts.exists()
    found = Trained(**_train.with_options(refresh_cache=not files)(spec, inputs, seed, champion))
    # A cached result names the files as they lay where it was made, which may be another machine or home.
    return replace(found, prompt=str(prompt), facts=str(facts))
