"""What a training reads: tokenized rows, their labels, and the order in which they come."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from softprompt_core.base_model.label_tree import LabelTree
from softprompt_core.base_model.loading import BaseModel
from softprompt_core.base_model.tokens import TokenizedRow, frequent_ids
from softprompt_core.data import spread
from softprompt_core.forward import Engine

VALIDATION_ROWS = 512  # checks happen often; more rows would cost more than they tell
_BUCKETS = 40  # batches are cut from this many batches' worth of shuffled rows, sorted by length


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """Tokenized rows of one task. For classification every target is one of ``labels``; None for generation."""

    train: Sequence[TokenizedRow]
    validation: Sequence[TokenizedRow]
    labels: LabelTree | None = None

    @functools.cached_property
    def checked(self) -> list[TokenizedRow]:
        """The validation rows that every check looks at."""
        return spread(self.validation, VALIDATION_ROWS)

    @functools.cached_property
    def frequent_ids(self) -> list[int]:
        """Token ids of the training inputs, most frequent first."""
        return frequent_ids(self.train)


@dataclass(frozen=True, eq=False)
class TrainingEngines:
    """Engines over the training inputs and the checked inputs of all tasks, each input once; and the index of each in them."""

    train: Engine
    checked: Engine
    train_index: dict[tuple[int, ...], int]
    checked_index: dict[tuple[int, ...], int]

    @classmethod
    def over(cls, base: BaseModel, position: str, tasks: Sequence[TrainingRows]) -> TrainingEngines:
        train = dict.fromkeys(row.input_ids for rows in tasks for row in rows.train)
        checked = dict.fromkeys(row.input_ids for rows in tasks for row in rows.checked)
        indices = [{ids: index for index, ids in enumerate(inputs)} for inputs in (train, checked)]
        return cls(Engine(base, position, list(train)), Engine(base, position, list(checked)), *indices)


def epoch_batches(lengths: Sequence[int], size: int, seed: int, epoch: int) -> list[list[int]]:
    """Batches of one epoch, as row indices: shuffled, yet each of similar lengths, so that little padding is computed."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    batches: list[list[int]] = []
    for start in range(0, len(order), size * _BUCKETS):
        bucket = sorted(order[start : start + size * _BUCKETS], key=lambda i: lengths[i])
        batches += [bucket[i : i + size] for i in range(0, len(bucket), size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
