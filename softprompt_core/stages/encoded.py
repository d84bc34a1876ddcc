"""A task's rows as one base reads them, kept for the calls that follow each other: seeds, sweep points, stages of a lifecycle."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from softprompt_core.base_model import BaseModel, load_base
from softprompt_core.data import DataReport, TaskData, load_task_data
from softprompt_core.encoding import Row, answer_ids, cut, encode_inputs, input_limit
from softprompt_core.label_words import LabelTokens
from softprompt_core.soft_prompt.tensor import Position, require_room
from softprompt_core.spec import BaseModelSpec, PromptSpec
from softprompt_core.stages.inputs import Inputs
from softprompt_core.training import Engines, TrainingRows


@dataclass(frozen=True)
class Source:
    """What decides the encoded rows, apart from how much room a prompt leaves them. Tasks of one source can train together."""

    base: str
    data: str
    content: tuple[str, str]
    max_new_tokens: int
    position: Literal["auto", "prefix", "suffix"]
    folder: str = field(compare=False)

    @classmethod
    def of(cls, spec: PromptSpec, inputs: Inputs) -> Source:
        return cls(
            base=spec.base_model.model_dump_json(),
            data=spec.data.model_dump_json(exclude={"max_input_tokens"}),
            content=(inputs.base.fingerprint, inputs.data),
            max_new_tokens=0 if spec.is_classification else spec.evaluation.max_new_tokens,
            position=spec.prompt.position,
            folder=str(inputs.workspace.data),
        )


@dataclass(frozen=True, eq=False)
class Encoded:
    """Rows of a source in full length, by split. ``lengths`` are the tokenizer's own counts, of test rows too."""

    base: BaseModel
    data: TaskData
    position: Position
    labels: LabelTokens | None
    inputs: dict[str, list[tuple[int, ...]]]
    targets: dict[str, list[tuple[int, ...]]]
    lengths: dict[str, list[int]]
    _rows: dict[int, TrainingRows] = field(default_factory=dict)
    _engines: dict[tuple[int, ...], Engines] = field(default_factory=dict)

    def limit(self, spec: PromptSpec) -> int:
        """How many input tokens the prompt of ``spec`` leaves room for.

        Raises:
            InvalidInput: none, or the prompt does not fit the base at all.
        """
        require_room(spec.prompt.length, self.base)
        answers = self.labels.ids if self.labels else [*self.targets["train"], *self.targets["validation"]]
        return input_limit(self.base, spec.prompt.length, max(map(len, answers)), spec.data.max_input_tokens)

    def rows(self, limit: int) -> TrainingRows:
        """Training and validation rows, inputs cut to ``limit`` tokens. The same object for all limits that cut nothing."""
        limit = min(limit, max(len(ids) for split in self.inputs.values() for ids in split))
        if limit not in self._rows:
            made = {
                split: [Row(cut(self.base, ids, limit), target) for ids, target in zip(self.inputs[split], targets, strict=True)]
                for split, targets in self.targets.items()
            }
            self._rows[limit] = TrainingRows(made["train"], made["validation"], self.labels)
        return self._rows[limit]

    def engines(self, rows: Sequence[TrainingRows]) -> Engines:
        """Engines over these rows, kept until others are asked for: they hold the inputs' keys and values."""
        distinct = {id(one): one for one in rows}
        key = tuple(distinct)
        if key not in self._engines:
            self._engines.clear()
            self._engines[key] = Engines.over(self.base, self.position, list(distinct.values()))
        return self._engines[key]

    def report(self, limit: int) -> DataReport:
        return self.data.report.with_token_lengths(self.lengths, limit)


def encoded(spec: PromptSpec, inputs: Inputs) -> Encoded:
    """The rows of a task whose data were gathered. Raises InvalidInput: the base cannot tell the labels apart."""
    return _encoded(Source.of(spec, inputs))


def release() -> None:
    """Forget encoded inputs; they may hold gigabytes of keys and values."""
    _encoded.cache_clear()


@functools.lru_cache(maxsize=1)
def _encoded(source: Source) -> Encoded:
    base, data = load_base(BaseModelSpec.model_validate_json(source.base)), load_task_data(Path(source.folder))
    labels = LabelTokens.of(base, data.labels) if data.labels else None
    by_word = dict(zip(data.labels, labels.ids, strict=True)) if labels else {}
    targets = {
        split: [by_word[e.target] if by_word else _answer(base, e.target, source.max_new_tokens) for e in data.splits[split]]
        for split in ("train", "validation")
    }
    inputs, lengths = {}, {}
    for split, examples in data.splits.items():
        found, lengths[split] = encode_inputs(base, [e.input for e in examples], input_limit(base, 0, 0, None))
        if split in targets:
            inputs[split] = found
    position = base.default_position() if source.position == "auto" else source.position
    return Encoded(base, data, position, labels, inputs, targets, lengths)


def _answer(base: BaseModel, text: str, longest: int) -> tuple[int, ...]:
    return answer_ids(base, text, close=True)[:longest]
