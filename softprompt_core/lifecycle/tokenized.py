"""A task's rows as token ids of one base, kept for calls that follow each other: seeds, sweep points, stages of a lifecycle."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from softprompt_core.base_model.label_tree import LabelTree
from softprompt_core.base_model.loading import BaseModel, load_base
from softprompt_core.base_model.tokens import TokenizedRow, answer_ids, answer_room, cut, encode_inputs, input_limit
from softprompt_core.data import DataReport, TaskData
from softprompt_core.errors import InvalidInput
from softprompt_core.lifecycle.resolve import ResolvedTask
from softprompt_core.soft_prompt.tensor import Position, require_room
from softprompt_core.spec import PromptSpec
from softprompt_core.training import TrainingEngines, TrainingRows

_SHOWN = 10  # rows in a message


@dataclass(frozen=True)
class TokenizationKey:
    """What decides the token ids, before inputs are cut to what a prompt leaves room for. Tasks of equal keys train together."""

    base: str
    data: str
    content: tuple[str, str]
    max_new_tokens: int
    position: Literal["auto", "prefix", "suffix"]
    task: ResolvedTask = field(compare=False, repr=False)

    @classmethod
    def of(cls, task: ResolvedTask) -> TokenizationKey:
        spec = task.spec
        return cls(
            base=spec.base_model.model_dump_json(),
            data=spec.data.model_dump_json(exclude={"max_input_tokens"}),
            content=(task.base.fingerprint, task.fingerprints.data),
            max_new_tokens=0 if spec.is_classification else spec.evaluation.max_new_tokens,
            position=spec.prompt.position,
            task=task,
        )


@dataclass(frozen=True, eq=False)
class TokenizedData:
    """Rows in full length, by split. ``lengths`` are the tokenizer's own counts, of test rows too, and ``unknown`` how many of
    these tokens stand for text that the tokenizer does not know."""

    base: BaseModel
    data: TaskData
    position: Position
    labels: LabelTree | None
    inputs: dict[str, list[tuple[int, ...]]]
    targets: dict[str, list[tuple[int, ...]]]
    lengths: dict[str, list[int]]
    unknown: dict[str, int]
    _rows: dict[int, TrainingRows] = field(default_factory=dict)
    _engines: dict[tuple[int, ...], TrainingEngines] = field(default_factory=dict)

    def limit(self, spec: PromptSpec) -> int:
        """How many input tokens the prompt of ``spec`` leaves room for.

        Raises:
            InvalidInput: none, or the prompt does not fit the base at all.
        """
        require_room(spec.prompt.length, self.base)
        room = answer_room(spec, self.labels.ids if self.labels else ())
        return input_limit(self.base, spec.prompt.length, room, spec.data.max_input_tokens)

    def rows(self, limit: int) -> TrainingRows:
        """Training and validation rows, inputs cut to ``limit`` tokens. The same object for all limits that cut nothing."""
        limit = min(limit, max(len(ids) for split in self.inputs.values() for ids in split))
        if limit not in self._rows:
            train, validation = (
                [
                    TokenizedRow(cut(self.base, ids, limit), target)
                    for ids, target in zip(self.inputs[split], self.targets[split], strict=True)
                ]
                for split in ("train", "validation")
            )
            self._rows[limit] = TrainingRows(train, validation, self.labels)
        return self._rows[limit]

    def engines(self, rows: Sequence[TrainingRows]) -> TrainingEngines:
        """Engines over these rows, kept until others are asked for: they hold the inputs' keys and values."""
        distinct = {id(each): each for each in rows}
        key = tuple(distinct)
        if key not in self._engines:
            self._engines.clear()
            self._engines[key] = TrainingEngines.over(self.base, self.position, list(distinct.values()))
        return self._engines[key]

    def report(self, spec: PromptSpec) -> DataReport:
        """The data report with lengths in tokens, and what the base's tokenizer does not take as one might think."""
        report = self.data.report.with_token_lengths(self.lengths, self.limit(spec), self.unknown)
        written = (spec.data.input, spec.data.target.template or "", *self.data.labels, *spec.evaluation.hard_prompts)
        names = sorted({name for text in written for name in self.base.vocabulary.control_names(text)})
        if not names:
            return report
        warning = f"The spec writes {', '.join(names)}: text like all other text here, not a control token of the base."
        return report.model_copy(update={"warnings": (*report.warnings, warning)})


def tokenized(task: ResolvedTask) -> TokenizedData:
    """The rows of a task whose data were prepared. Raises InvalidInput: the base cannot tell the labels apart."""
    return _tokenized(TokenizationKey.of(task))


def release() -> None:
    """Forget tokenized inputs; their engines may hold gigabytes of keys and values."""
    _tokenized.cache_clear()


@functools.lru_cache(maxsize=1)
def _tokenized(key: TokenizationKey) -> TokenizedData:
    base, data = load_base(key.task.spec.base_model), key.task.data
    tree = LabelTree.of(base, data.labels) if data.labels else None
    answers = _label_answers(data, tree) if tree else _written_answers(base, data, key.max_new_tokens)
    inputs, lengths, unknown = {}, {}, {}
    for split, examples in data.splits.items():
        ids, lengths[split] = encode_inputs(base, [e.input for e in examples], input_limit(base, 0, 0, None))
        unknown[split] = sum(row.count(base.vocabulary.unknown) for row in ids) if base.vocabulary.unknown is not None else 0
        if split in ("train", "validation"):
            inputs[split] = ids
    position = base.default_position() if key.position == "auto" else key.position
    return TokenizedData(base, data, position, tree, inputs, answers, lengths, unknown)


def _label_answers(data: TaskData, tree: LabelTree) -> dict[str, list[tuple[int, ...]]]:
    ids = dict(zip(data.labels, tree.ids, strict=True))
    return {split: [ids[example.target] for example in examples] for split, examples in data.splits.items()}


def _written_answers(base: BaseModel, data: TaskData, max_new_tokens: int) -> dict[str, list[tuple[int, ...]]]:
    """Gold texts as token ids, cut to what may be written.

    Raises:
        InvalidInput: the tokenizer has no end token, or knows nothing of a text.
    """
    if base.vocabulary.end is None:
        raise InvalidInput(
            f"{base.identity.id} cannot write text: its tokenizer has no end token, so an answer would never end",
            where="base_model.id",
            do="use a base whose tokenizer names an eos_token, or a task with labels",
        )
    answers: dict[str, list[tuple[int, ...]]] = {}
    strange: list[str] = []
    for split, examples in data.splits.items():
        answers[split] = [answer_ids(base, example.target, close=True)[:max_new_tokens] for example in examples]
        strange += [e.id for e, ids in zip(examples, answers[split], strict=True) if base.vocabulary.all_unknown(ids)]
    if strange:
        more = f" and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
        raise InvalidInput(
            f"this base's tokenizer knows nothing of the target of {', '.join(strange[:_SHOWN])}{more}",
            where="data.target.template",
            do="use a base that knows the language, or take these rows out",
        )
    return answers
