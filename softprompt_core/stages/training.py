"""Second stage: train the soft prompts of a task, or of several that read the same rows, all of them together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from softprompt_core.data import DataReport
from softprompt_core.encoding import answer_ids
from softprompt_core.errors import Diverged
from softprompt_core.interpretation import drift
from softprompt_core.soft_prompt import SoftPrompt, initial_weights, read_npy
from softprompt_core.spec import PromptSpec
from softprompt_core.stages.encoded import Encoded, Source, encoded
from softprompt_core.stages.inputs import Inputs
from softprompt_core.stages.trained import Trained, finished, seeds
from softprompt_core.stages.workspace import write_json
from softprompt_core.training import (
    Job,
    Progress,
    TrainedPrompt,
    TrainingRows,
    choose_settings,
    data_parallel,
    train_prompts,
)

OnProgress = Callable[[int, int], Callable[[Progress], None]]
"""For the place of a task and a seed, the function that is called after each step."""


def train_seeds(
    spec: PromptSpec,
    inputs: Inputs,
    *,
    champion: Path | None = None,
    only: Sequence[int] | None = None,
    on_progress: Callable[[int], Callable[[Progress], None]] | None = None,
    on_check: Callable[[int], Callable[[Mapping[str, float]], None]] | None = None,
) -> list[Trained]:
    """Train (or continue, or find finished) the prompts of all seeds, together: they share the base and its encoded inputs.

    Args:
        champion: the champion's prompt file, for ``prompt.init: champion``; without one (a first version) labels are used.
        only: some of the spec's seeds; another process has the others.
        on_progress: for a seed, the function that is called after each of its steps.
        on_check: for a seed, the function that is called with each entry of its history.

    Raises:
        InvalidInput: prompt or texts do not fit the base.
        Diverged: no seed gave a finite prompt.
    """
    of_task = (lambda _, seed: on_progress(seed)) if on_progress else None
    (found,) = train_together([(spec, inputs)], champion=champion, only=only, on_progress=of_task, on_check=on_check)
    if isinstance(found, Diverged):
        raise found
    return found


def train_together(
    tasks: Sequence[tuple[PromptSpec, Inputs]],
    *,
    champion: Path | None = None,
    only: Sequence[int] | None = None,
    on_progress: OnProgress | None = None,
    on_check: Callable[[int], Callable[[Mapping[str, float]], None]] | None = None,
) -> list[list[Trained] | Diverged]:
    """Train tasks that read the same rows on the same base in one loop. What is finished already is not trained again.

    Each prompt comes out as if its task were trained alone, up to the rounding that batch shapes bring, and its files lie where a
    training alone looks for them.

    Args:
        tasks: of one ``Source``.
        champion, only, on_progress, on_check: as for ``train_seeds``.

    Returns:
        For each task the seeds that gave a finite prompt; Diverged if none did.

    Raises:
        InvalidInput: a prompt or the texts do not fit the base.
        ValueError: the tasks are of several sources.
    """
    if len({Source.of(spec, inputs) for spec, inputs in tasks}) > 1:
        raise ValueError("only tasks that read the same rows on the same base can be trained together")
    found: dict[int, list[Trained] | Diverged] = {}
    jobs: list[tuple[int, Job]] = []
    for place, (spec, inputs) in enumerate(tasks):
        key = _key(spec, inputs, champion)
        wanted = seeds(spec) if only is None else only
        done = finished(inputs.workspace, wanted, key)
        if done is not None:
            found[place] = done
            continue
        rows = _rows(spec, inputs)
        settings = choose_settings(spec.training, encoded(spec, inputs).base, len(rows.train))
        jobs += [
            (
                place,
                Job(
                    rows,
                    _start(spec, inputs, seed, champion),
                    settings,
                    seed=seed,
                    save_to=inputs.workspace.checkpoint(seed),
                    key=key,
                    on_progress=on_progress(place, seed) if on_progress else None,
                    on_check=on_check(seed) if on_check else None,
                ),
            )
            for seed in wanted
        ]
    if jobs:
        found |= _train(tasks, jobs)
    return [found[place] for place in range(len(tasks))]


def _train(tasks: Sequence[tuple[PromptSpec, Inputs]], jobs: Sequence[tuple[int, Job]]) -> dict[int, list[Trained] | Diverged]:
    known = encoded(*tasks[0])
    engines = known.engines([job.rows for _, job in jobs])
    results = train_prompts(known.base, [job for _, job in jobs], known.position, engines=engines)
    found: dict[int, list[Trained] | Diverged] = {}
    for (place, job), result in zip(jobs, results, strict=True):
        before = found.get(place)
        if isinstance(result, Diverged):
            found.setdefault(place, result)
        else:
            trained = _written(*tasks[place], job, result, known, engines.train.reason)
            found[place] = [*(before if isinstance(before, list) else []), trained]
    return found


def _written(spec: PromptSpec, inputs: Inputs, job: Job, result: TrainedPrompt, known: Encoded, slow_path: str | None) -> Trained:
    place, seed = inputs.workspace, result.seed
    history = [{k: v if v == v else None for k, v in entry.items()} for entry in result.history]
    error = next(entry["validation_error"] for entry in history if entry["step"] == result.best_step)
    score: dict[str, Any] = dict(metric=result.best_score[0], loss=-result.best_score[1], error=error)
    score |= dict(seconds=result.seconds, stopped=result.stopped)
    if data_parallel.is_first():
        SoftPrompt(result.weights, known.position, known.base.identity, spec.name, known.data.labels).save(place.prompt(seed))
        facts = dict(settings=job.settings.to_dict(), history=history, best_step=result.best_step, steps=result.steps)
        facts |= dict(slow_path=slow_path, drift=drift(job.start, result.weights).to_json())
        write_json(place.training(seed), {"key": job.key, **score, **facts})  # last: it says that the prompt is there
    return Trained(seed, str(place.prompt(seed)), str(place.training(seed)), **score)


def _key(spec: PromptSpec, inputs: Inputs, champion: Path | None) -> str:
    # The champion that a prompt starts from is no input that makes results stale, but it does make another training.
    start = SoftPrompt.load(champion).digest if champion and spec.prompt.init == "champion" else ""
    return f"{inputs.training}/{start}"


def _rows(spec: PromptSpec, inputs: Inputs) -> TrainingRows:
    known = encoded(spec, inputs)
    return known.rows(known.limit(spec))


def check(spec: PromptSpec, inputs: Inputs, champion: Path | None = None) -> None:
    """Find out whether a training can start, without starting one. What is read and encoded for it is kept for the training.

    Raises:
        InvalidInput: prompt and answers do not fit the base's context, labels cannot be told apart, or the prompt that training
            starts from is for another base or shape.
    """
    _start(spec, inputs, spec.training.seed, champion)


def checked_rows(spec: PromptSpec, inputs: Inputs) -> int:
    """How many validation rows every check of a training looks at."""
    return len(_rows(spec, inputs).checked)


def data_report(spec: PromptSpec, inputs: Inputs) -> DataReport:
    """The data report with the lengths in tokens of this base, and how many inputs are cut."""
    known = encoded(spec, inputs)
    return known.report(known.limit(spec))


def _start(spec: PromptSpec, inputs: Inputs, seed: int, champion: Path | None) -> Tensor:
    known = encoded(spec, inputs)
    config, given = spec.prompt, None
    if config.init == "file" and config.file is not None:
        file = Path(config.file)
        if file.suffix == ".npy":
            given = read_npy(file)
        else:
            prompt = SoftPrompt.load(file)
            prompt.require_base(known.base.identity)
            given = prompt.weights
    elif config.init == "champion":
        if champion is None:
            config = config.model_copy(update={"init": "labels"})
        else:
            prompt = SoftPrompt.load(champion)
            prompt.require_base(known.base.identity)
            given = prompt.weights
    return initial_weights(
        config,
        known.base,
        seed=seed,
        label_ids=[answer_ids(known.base, label, close=False) for label in known.data.labels],
        frequent_ids=_rows(spec, inputs).frequent_ids,
        given=given,
    )
