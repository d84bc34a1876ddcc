"""Second stage: train one soft prompt a seed, all seeds together."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from softprompt_core.base_model import BaseModel, load_base
from softprompt_core.data import DataReport, load_task_data
from softprompt_core.encoding import Row, answer_ids, encode_inputs, frequent_ids, input_limit
from softprompt_core.errors import Diverged
from softprompt_core.interpretation import drift
from softprompt_core.label_words import LabelTokens
from softprompt_core.soft_prompt import SoftPrompt, initial_weights, read_npy
from softprompt_core.soft_prompt.tensor import Position, require_room
from softprompt_core.spec import PromptSpec
from softprompt_core.stages.inputs import Inputs
from softprompt_core.stages.workspace import read_json, write_json
from softprompt_core.training import (
    Engines,
    Job,
    Progress,
    TrainedPrompt,
    TrainingRows,
    choose_settings,
    data_parallel,
    train_prompts,
)


@dataclass(frozen=True)
class Trained:
    """One trained prompt: file, what decided it, and its best validation score."""

    seed: int
    prompt: str
    facts: str
    metric: float
    loss: float
    seconds: float
    stopped: str


@dataclass(frozen=True, eq=False)
class _Encoded:
    base: BaseModel
    position: Position
    rows: TrainingRows
    engines: Engines
    labels: tuple[str, ...]
    report: DataReport


def train_seeds(
    spec: PromptSpec,
    inputs: Inputs,
    *,
    champion: Path | None = None,
    on_progress: Callable[[int], Callable[[Progress], None]] | None = None,
) -> list[Trained]:
    """Train (or continue, or find finished) the prompts of all seeds, together: they share the base and its encoded inputs.

    Args:
        champion: the champion's prompt file, for ``prompt.init: champion``; without one (a first version) labels are used.
        on_progress: for a seed, the function that is called after each of its steps.

    Raises:
        InvalidInput: prompt or texts do not fit the base.
        Diverged: no seed gave a finite prompt.
    """
    encoded = _encoded(spec.model_dump_json(), inputs)
    settings = choose_settings(spec.training, encoded.base, len(encoded.rows.train))
    # The champion that a prompt starts from is no input that makes results stale, but it does make another training.
    start = SoftPrompt.load(champion).digest if champion and spec.prompt.init == "champion" else ""
    seeds = range(spec.training.seed, spec.training.seed + spec.training.seeds)
    jobs = [
        Job(
            encoded.rows,
            _start(spec, encoded, seed, champion),
            settings,
            seed=seed,
            save_to=inputs.workspace.checkpoint(seed),
            key=f"{inputs.training}/{start}",
            on_progress=on_progress(seed) if on_progress else None,
        )
        for seed in seeds
    ]
    results = train_prompts(encoded.base, jobs, encoded.position, engines=encoded.engines)
    finite = [(job, result) for job, result in zip(jobs, results, strict=True) if isinstance(result, TrainedPrompt)]
    if not finite:
        raise next(result for result in results if isinstance(result, Diverged))
    return [_written(spec, encoded, inputs, job, result) for job, result in finite]


def _written(spec: PromptSpec, encoded: _Encoded, inputs: Inputs, job: Job, result: TrainedPrompt) -> Trained:
    place, seed = inputs.workspace, result.seed
    metric, loss = result.best_score[0], -result.best_score[1]
    trained = Trained(seed, str(place.prompt(seed)), str(place.training(seed)), metric, loss, result.seconds, result.stopped)
    if not data_parallel.is_first():
        return trained
    SoftPrompt(result.weights, encoded.position, encoded.base.identity, spec.name, encoded.labels).save(place.prompt(seed))
    history = [{k: v if v == v else None for k, v in entry.items()} for entry in result.history]
    facts = dict(settings=job.settings.to_dict(), history=history, best_step=result.best_step, steps=result.steps)
    facts |= dict(seconds=result.seconds, stopped=result.stopped, slow_path=encoded.engines.train.reason)
    facts |= dict(drift=drift(job.start, result.weights).to_json())
    write_json(place.training(seed), facts)
    return trained


def check(spec: PromptSpec, inputs: Inputs, champion: Path | None = None) -> None:
    """Find out whether a training can start, without starting one. What is read and encoded for it is kept for the training.

    Raises:
        InvalidInput: prompt and answers do not fit the base's context, labels cannot be told apart, or the prompt that training
            starts from is for another base or shape.
    """
    _start(spec, _encoded(spec.model_dump_json(), inputs), spec.training.seed, champion)


def best(trained: list[Trained]) -> Trained:
    """The seed that is best on validation: metric first, then loss, then the earlier seed. Test rows play no part."""
    return max(trained, key=lambda t: (t.metric, -t.loss, -t.seed))


def facts(trained: Trained) -> dict[str, Any]:
    """Effective settings, history, step and seconds of a training."""
    found: dict[str, Any] = read_json(Path(trained.facts))
    return found


def curve(trained: Trained) -> list[dict[str, float]]:
    """The history of a training; NaN where a value is missing."""
    return [{k: float("nan") if v is None else v for k, v in entry.items()} for entry in facts(trained)["history"]]


def data_report(spec: PromptSpec, inputs: Inputs) -> DataReport:
    """The data report with the lengths in tokens of this base, and how many inputs are cut."""
    return _encoded(spec.model_dump_json(), inputs).report


def release() -> None:
    """Forget encoded inputs; they may hold gigabytes of keys and values."""
    _encoded.cache_clear()


@functools.lru_cache(maxsize=1)  # the seeds of one lifecycle follow each other and share it
def _encoded(spec_json: str, inputs: Inputs) -> _Encoded:
    spec = PromptSpec.model_validate_json(spec_json)
    base, data = load_base(spec.base_model), load_task_data(inputs.workspace.data)
    require_room(spec.prompt.length, base)
    labels = LabelTokens.of(base, data.labels) if data.labels else None
    by_word = dict(zip(data.labels, labels.ids, strict=True)) if labels else {}

    def answers(split: str) -> list[tuple[int, ...]]:
        found = [by_word[e.target] if by_word else answer_ids(base, e.target, close=True) for e in data.splits[split]]
        return found if by_word else [ids[: spec.evaluation.max_new_tokens] for ids in found]

    targets = {split: answers(split) for split in ("train", "validation")}
    longest = max(len(ids) for ids in (labels.ids if labels else [*targets["train"], *targets["validation"]]))
    limit = input_limit(base, spec.prompt.length, longest, spec.data.max_input_tokens)
    lengths, rows = {}, {}
    for split, examples in data.splits.items():
        encoded, lengths[split] = encode_inputs(base, [e.input for e in examples], limit)
        if split in targets:
            rows[split] = [Row(ids, target) for ids, target in zip(encoded, targets[split], strict=True)]
    position: Position = spec.prompt.position if spec.prompt.position != "auto" else base.default_position()
    training_rows = TrainingRows(rows["train"], rows["validation"], labels)
    engines = Engines.over(base, position, [training_rows])
    return _Encoded(base, position, training_rows, engines, data.labels, data.report.with_token_lengths(lengths, limit))


def _start(spec: PromptSpec, encoded: _Encoded, seed: int, champion: Path | None) -> Tensor:
    config, given = spec.prompt, None
    if config.init == "file" and config.file is not None:
        file = Path(config.file)
        if file.suffix == ".npy":
            given = read_npy(file)
        else:
            prompt = SoftPrompt.load(file)
            prompt.require_base(encoded.base.identity)
            given = prompt.weights
    elif config.init == "champion":
        if champion is None:
            config = config.model_copy(update={"init": "labels"})
        else:
            prompt = SoftPrompt.load(champion)
            prompt.require_base(encoded.base.identity)
            given = prompt.weights
    return initial_weights(
        config,
        encoded.base,
        seed=seed,
        label_ids=[answer_ids(encoded.base, label, close=False) for label in encoded.labels],
        frequent_ids=frequent_ids(encoded.rows.train),
        given=given,
    )
