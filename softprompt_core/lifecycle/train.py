"""Train the soft prompts of a task, or of several that read the same rows, all of them together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softprompt_core.base_model.tokens import answer_ids
from softprompt_core.data import DataReport
from softprompt_core.errors import Diverged
from softprompt_core.evaluation.scoring import check_hard_prompts
from softprompt_core.forward import Engine, generate
from softprompt_core.interpretation import displacement
from softprompt_core.json_files import write_json
from softprompt_core.lifecycle.progress import training_progress
from softprompt_core.lifecycle.resolve import ResolvedTask
from softprompt_core.lifecycle.tokenized import TokenizationKey, tokenized
from softprompt_core.lifecycle.trained import TrainedSeed, finished_seed
from softprompt_core.soft_prompt import SoftPrompt, initial_weights, read_start
from softprompt_core.training import (
    Progress,
    TrainedPrompt,
    TrainingJob,
    TrainingRows,
    choose_settings,
    data_parallel,
    train_prompts,
)

OnProgress = Callable[[ResolvedTask, int], Callable[[Progress], None]]
"""For a task and a seed, the function that is called after each step."""
OnCheck = Callable[[int], Callable[[Mapping[str, float]], None]]
"""For a seed, the function that is called with each entry of its history."""


def train(
    task: ResolvedTask,
    *,
    champion: Path | None = None,
    seeds: Sequence[int] | None = None,
    on_progress: OnProgress | None = None,
    on_check: OnCheck | None = None,
) -> list[TrainedSeed]:
    """Train (or continue, or find finished) the prompts of all seeds, together: they share the base and its tokenized inputs.

    Args:
        champion: the champion's prompt file, for ``prompt.init: champion``; without one (a first version) labels are used.
        seeds: some of the task's seeds, where another process has the others.
        on_progress: for the task and a seed, the function that is called after each of its steps. Default: a display on stderr.
        on_check: for a seed, the function that is called with each entry of its history.

    Raises:
        InvalidInput: prompt or texts do not fit the base.
        Diverged: no seed gave a finite prompt.
    """
    if on_progress is None:
        with training_progress() as show:

            def shown(task: ResolvedTask, seed: int) -> Callable[[Progress], None]:
                return show(f"{task.name} seed {seed}")

            return train(task, champion=champion, seeds=seeds, on_progress=shown, on_check=on_check)
    (result,) = train_together([task], champion=champion, seeds=seeds, on_progress=on_progress, on_check=on_check)
    if isinstance(result, Diverged):
        raise result
    return result


def train_together(
    tasks: Sequence[ResolvedTask],
    *,
    champion: Path | None = None,
    seeds: Sequence[int] | None = None,
    on_progress: OnProgress | None = None,
    on_check: OnCheck | None = None,
) -> list[list[TrainedSeed] | Diverged]:
    """Train tasks that read the same rows on the same base in one loop. What is finished already is not trained again.

    Each prompt comes out as if its task were trained alone, up to the rounding that batch shapes bring, and its files lie where a
    training alone looks for them.

    Args:
        tasks: of one ``TokenizationKey``.
        champion, seeds, on_progress, on_check: as for ``train``.

    Returns:
        For each task the seeds that gave a finite prompt; Diverged if none did.

    Raises:
        InvalidInput: a prompt or the texts do not fit the base.
        ValueError: the tasks are of several sources.
    """
    if len({TokenizationKey.of(task) for task in tasks}) > 1:
        raise ValueError("only tasks that read the same rows on the same base can be trained together")
    results: dict[int, list[TrainedSeed] | Diverged] = {}
    jobs: list[tuple[int, TrainingJob]] = []
    for index, task in enumerate(tasks):
        key = _key(task, champion)
        wanted = task.seeds if seeds is None else seeds
        finished = [trained for seed in wanted if (trained := finished_seed(task.workspace, seed, key)) is not None]
        if len(finished) == len(wanted):
            results[index] = finished
            continue
        rows = _rows(task)
        settings = choose_settings(task.spec.training, tokenized(task).base, len(rows.train))
        for seed in wanted:
            job = TrainingJob(
                rows,
                _initial_weights(task, seed, champion),
                settings,
                seed=seed,
                save_to=task.workspace.checkpoint(seed),
                key=key,
                on_progress=on_progress(task, seed) if on_progress else None,
                on_check=on_check(seed) if on_check else None,
            )
            jobs.append((index, job))
    if jobs:
        results |= _train(tasks, jobs)
    return [results[index] for index in range(len(tasks))]


def check(task: ResolvedTask, champion: Path | None = None) -> None:
    """Find out whether a training can start, without starting one. What is read and tokenized for it is kept for the training.

    Raises:
        InvalidInput: prompt, hard prompts and answers do not fit the base's context, labels cannot be told apart, the base works
            in a way that no soft prompt fits, or the prompt that training starts from is for another base or shape.
    """
    start, rows = _initial_weights(task, task.spec.training.seed, champion), tokenized(task)
    check_hard_prompts(rows.base, task.spec, rows.labels.ids if rows.labels else ())
    engines = rows.engines([_rows(task)])
    with torch.no_grad():
        for engine in (engines.train, engines.checked):
            engine.prompts([start])
    if rows.labels is None and task.spec.evaluation.num_beams > 1:  # not every architecture can
        shortest = min(rows.inputs["train"], key=len)
        generate(Engine(rows.base, rows.position, [shortest]), start, max_new_tokens=1, num_beams=task.spec.evaluation.num_beams)


def checked_rows(task: ResolvedTask) -> int:
    """How many validation rows every check of a training looks at."""
    return len(_rows(task).checked)


def data_report(task: ResolvedTask) -> DataReport:
    """The data report with the lengths in tokens of this base, and how many inputs are cut."""
    return tokenized(task).report(task.spec)


def _train(tasks: Sequence[ResolvedTask], jobs: Sequence[tuple[int, TrainingJob]]) -> dict[int, list[TrainedSeed] | Diverged]:
    rows = tokenized(tasks[0])
    engines = rows.engines([job.rows for _, job in jobs])
    prompts = train_prompts(rows.base, [job for _, job in jobs], rows.position, engines=engines)
    results: dict[int, list[TrainedSeed] | Diverged] = {}
    for (index, job), prompt in zip(jobs, prompts, strict=True):
        if isinstance(prompt, Diverged):
            results.setdefault(index, prompt)
            continue
        trained = _saved(tasks[index], job, prompt, engines.train.reason)
        before = results.get(index)
        results[index] = [*(before if isinstance(before, list) else []), trained]
    return results


def _saved(task: ResolvedTask, job: TrainingJob, prompt: TrainedPrompt, slow_path: str | None) -> TrainedSeed:
    workspace, rows, seed = task.workspace, tokenized(task), prompt.seed
    history = [{k: v if v == v else None for k, v in entry.items()} for entry in prompt.history]
    error = next(entry["validation_error"] for entry in history if entry["step"] == prompt.best_step)
    scores: dict[str, Any] = dict(metric=prompt.best_score[0], loss=-prompt.best_score[1], error=error)
    scores |= dict(seconds=prompt.seconds, stopped=prompt.stopped)
    if data_parallel.is_first():
        SoftPrompt(prompt.weights, rows.position, rows.base.identity, task.name, rows.data.labels).save(workspace.prompt(seed))
        facts = dict(
            settings=job.settings.model_dump(mode="json"), history=history, best_step=prompt.best_step, steps=prompt.steps
        )
        facts |= dict(slow_path=slow_path, drift=displacement(job.start, prompt.weights).model_dump(mode="json"))
        write_json(workspace.training(seed), {"key": job.key, **scores, **facts})  # last: it says that the prompt is there
    return TrainedSeed(seed, workspace.prompt(seed), workspace.training(seed), **scores)


def _key(task: ResolvedTask, champion: Path | None) -> str:
    # The champion that a prompt starts from is no input that makes results stale, but it does make another training.
    start = SoftPrompt.load(champion).digest if champion and task.spec.prompt.init == "champion" else ""
    return f"{task.fingerprints.training}/{start}"


def _rows(task: ResolvedTask) -> TrainingRows:
    rows = tokenized(task)
    return rows.rows(rows.limit(task.spec))


def _initial_weights(task: ResolvedTask, seed: int, champion: Path | None) -> Tensor:
    base, labels = tokenized(task).base, tokenized(task).data.labels
    config, weights = task.spec.prompt, None
    if config.init == "champion" and champion is None:
        config = config.model_copy(update={"init": "labels"})
    if config.init == "champion" and champion is not None:
        prompt = SoftPrompt.load(champion)
        prompt.require_base(base.identity)
        weights = prompt.weights
    elif config.init == "file" and config.file is not None:
        weights = read_start(Path(config.file), base)
    return initial_weights(
        config,
        base,
        seed=seed,
        label_ids=[answer_ids(base, label, close=False) for label in labels],
        frequent_ids=_rows(task).frequent_ids,
        given=weights,
    )
