"""``TaskData``: a task's rows as training and evaluation take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from softprompt_core.data.report import DataReport

Item = TypeVar("Item")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Example:
    """One row, ready for a model."""

    id: str
    """``test/17``: the split in the source, and the row's number there, from 0. A test row made from train keeps ``train/…``."""
    input: str
    """The rendered input template."""
    target: str
    """The label's word, or the rendered target template."""
    slices: frozenset[str]
    """Names of the slices that the row belongs to."""


@dataclass(frozen=True)
class TaskData:
    """A task's rows after cleaning and splitting."""

    splits: Mapping[str, tuple[Example, ...]]
    """Exactly ``train``, ``validation`` and ``test``; none is empty."""
    labels: tuple[str, ...]
    """Classification: the label words in a stable order. Generation: empty."""
    fingerprint: str
    """SHA-256 of every row of every split in every column that is used, and of the split settings where splits are made."""
    report: DataReport
    input_example: Mapping[str, Any]
    """The cells of one row in the columns of the input template."""
    columns: tuple[str, ...]
    """Columns that the input template uses."""


def spread(rows: Sequence[Item], count: int) -> list[Item]:
    """At most ``count`` rows, evenly spaced: files are often sorted by label, so the first rows would be of one class."""
    kept = min(count, len(rows))
    return [rows[i * len(rows) // kept] for i in range(kept)]
