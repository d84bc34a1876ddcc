"""Train the soft prompts of all seeds, together or on several workers; a finished training of the same inputs is taken from
Prefect's cache.

Here and in other tasks, stages that need torch are imported when they run: a run with nothing to do is spared those seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext

from softprompt_core.errors import Diverged, SoftpromptError
from softprompt_core.spec import PromptSpec
from softprompt_core.stages import curves
from softprompt_core.stages.inputs import Inputs
from softprompt_core.stages.trained import Trained, seeds
from tasks.fan_out import Item, fan_out
from tasks.progress import training_progress

if TYPE_CHECKING:
    from softprompt_core.training import Progress as Step

_NOWHERE: Mapping[int, str] = {}


@task(name="check", cache_policy=NO_CACHE, task_run_name="check: {spec.name}")
def check(spec: PromptSpec, inputs: Inputs, champion: str | None) -> None:
    """Whether a training can start; asked before anything is written to MLflow. ``champion``: folder of its version."""
    from softprompt_core.stages import training

    training.check(spec, inputs, prompt_file(champion))


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
def _train(
    spec: PromptSpec, inputs: Inputs, champion: str | None, shown_in: Mapping[int, str], spread: bool
) -> list[dict[str, Any]]:
    if spread and spec.training.seeds > 1:
        return _spread(spec, inputs, champion, shown_in)
    return _train_here(spec, inputs, champion, shown_in, None)


def _train_here(
    spec: PromptSpec, inputs: Inputs, champion: str | None, shown_in: Mapping[int, str], only: Sequence[int] | None
) -> list[dict[str, Any]]:
    from softprompt_core.stages.training import train_seeds

    start = prompt_file(champion)
    mine = {seed: run for seed, run in shown_in.items() if only is None or seed in only}
    with training_progress() as of, curves.live(spec, mine) as on_check:

        def on_progress(seed: int) -> Callable[[Step], None]:
            return of(f"{spec.name} seed {seed}")

        trained = train_seeds(spec, inputs, champion=start, only=only, on_progress=on_progress, on_check=on_check)
    return [asdict(one) for one in trained]


def _spread(spec: PromptSpec, inputs: Inputs, champion: str | None, shown_in: Mapping[int, str]) -> list[dict[str, Any]]:
    """Each seed on a worker of the Ray cluster that has room for one; this process, a worker itself, trains some too."""
    base = spec.base_model.model_dump_json()
    items = [Item(f"{spec.name} seed {seed}", base, (spec, inputs, champion, dict(shown_in), [seed])) for seed in seeds(spec)]
    found = fan_out(_train_here, items, take_part=True)
    for problem in found:
        if isinstance(problem, SoftpromptError) and not isinstance(problem, Diverged):
            raise problem
    trained = [one for result in found if not isinstance(result, Diverged) for one in result]
    if not trained:
        raise next(result for result in found if isinstance(result, Diverged))
    return trained


def train(
    spec: PromptSpec, inputs: Inputs, champion: str | None, shown_in: Mapping[int, str] = _NOWHERE, spread: bool = False
) -> list[Trained]:
    """Run the task; a cached result whose files were deleted is computed again.

    Args:
        shown_in: seed → the MLflow run that shows its curve while it grows.
        spread: several seeds on several workers of the Ray cluster, instead of all together in this process.
    """
    place = inputs.workspace
    files = all(place.prompt(seed).exists() and place.training(seed).exists() for seed in seeds(spec))
    found = [Trained(**one) for one in _train.with_options(refresh_cache=not files)(spec, inputs, champion, shown_in, spread)]
    # A cached result names the files as they lay where it was made, which may be another machine or home.
    return [replace(one, prompt=str(place.prompt(one.seed)), facts=str(place.training(one.seed))) for one in found]


def prompt_file(version: str | None) -> Path | None:
    """The soft prompt in a version's folder."""
    from softprompt_core.soft_prompt import FILE_NAME

    return Path(version) / FILE_NAME if version else None
