"""What a training reads: encoded rows, their labels, and the order in which they come."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from softprompt_core.base_model import BaseModel
from softprompt_core.data import spread
from softprompt_core.encoding import Row, frequent_ids
from softprompt_core.forward import Engine
from softprompt_core.label_words import LabelTokens

VALIDATION_ROWS = 512  # checks happen often; more rows would cost more than they tell
_BUCKETS = 40  # batches are cut from this many batches' worth of shuffled rows, sorted by length


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """Encoded rows. For classification ``labels`` holds the label tokens and every target is one of them; None for generation."""

    train: Sequence[Row]
    validation: Sequence[Row]
    labels: LabelTokens | None = None

    @functools.cached_property
    def checked(self) -> list[Row]:
        """The validation rows that every check looks at."""
        return spread(self.validation, VALIDATION_ROWS)

    @functools.cached_property
    def frequent_ids(self) -> list[int]:
        """Token ids of the training inputs, most frequent first."""
        return frequent_ids(self.train)


@dataclass(frozen=True, eq=False)
class Engines:
    """Engines over the training inputs and the checked inputs of all tasks; an input that occurs twice is there once."""

    train: Engine
    checked: Engine
    train_place: dict[tuple[int, ...], int]
    checked_place: dict[tuple[int, ...], int]

    @classmethod
    def over(cls, base: BaseModel, position: str, tasks: Sequence[TrainingRows]) -> Engines:
        train = {row.input_ids: None for rows in tasks for row in rows.train}
        checked = {row.input_ids: None for rows in tasks for row in rows.checked}
        places = [{ids: place for place, ids in enumerate(inputs)} for inputs in (train, checked)]
        return cls(Engine(base, position, list(train)), Engine(base, position, list(checked)), *places)


def epoch_batches(lengths: Sequence[int], size: int, seed: int, epoch: int) -> list[list[int]]:
    """Batches of one epoch: shuffled, yet each of similar lengths, so that little padding is computed."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    cut: list[list[int]] = []
    for start in range(0, len(order), size * _BUCKETS):
        bucket = sorted(order[start : start + size * _BUCKETS], key=lambda i: lengths[i])
        cut += [bucket[i : i + size] for i in range(0, len(bucket), size)]
    return [cut[i] for i in torch.randperm(len(cut), generator=generator).tolist()]
