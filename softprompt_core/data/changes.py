"""Which rows were added, removed or relabelled between two states of a task's data, told from hashes: no text is kept."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from softprompt_core.data.report import DataReport
from softprompt_core.data.rows import normalised
from softprompt_core.data.task_data import Example

_INPUT_DIGITS, _TARGET_DIGITS = 16, 8


@dataclass(frozen=True)
class SplitChange:
    """One split before and after. Row counts of single kinds are None where one side's hashes are not known."""

    split: str
    before: int
    after: int
    added: int | None
    removed: int | None
    relabelled: int | None
    """Rows whose input stayed (case and blanks aside) and whose answer did not."""

    @property
    def same(self) -> bool:
        return self.before == self.after and not (self.added or self.removed or self.relabelled)

    def __str__(self) -> str:
        counts = f"{self.split}: {self.before} → {self.after} rows"
        if self.added is None or self.removed is None or self.relabelled is None:
            return counts
        if self.same:
            return f"{self.split}: the same {self.after} rows"
        return f"{counts}, {self.added} added, {self.removed} removed, {self.relabelled} with another answer"


@dataclass(frozen=True)
class DataChanges:
    """What changed in a task's data. ``labels``: label → share of the training rows before and after."""

    splits: tuple[SplitChange, ...]
    labels: Mapping[str, tuple[float, float]]

    @property
    def same(self) -> bool:
        return all(split.same for split in self.splits)


def row_hashes(splits: Mapping[str, Sequence[Example]]) -> dict[str, list[str]]:
    """Split → one text a row: 16 hex digits for the input, 8 for the answer. Plain JSON."""
    return {name: [_row(example) for example in examples] for name, examples in splits.items()}


def data_changes(
    before: DataReport,
    after: DataReport,
    hashes_before: Mapping[str, Sequence[str]] | None,
    hashes_after: Mapping[str, Sequence[str]],
) -> DataChanges:
    """Compare two states of a task's data.

    Args:
        hashes_before, hashes_after: ``row_hashes`` of either; None where they were not kept.
    """
    splits = []
    for name, split in after.splits.items():
        rows_before = before.splits[name].rows if name in before.splits else 0
        counts: tuple[int | None, int | None, int | None] = (None, None, None)
        if hashes_before is not None:
            counts = _counts(hashes_before.get(name, ()), hashes_after[name])
        splits.append(SplitChange(name, rows_before, split.rows, *counts))
    return DataChanges(tuple(splits), _label_shares(before, after))


def _counts(before: Sequence[str], after: Sequence[str]) -> tuple[int, int, int]:
    """Rows that were added, removed, and given another answer."""
    removed, added = Counter(before) - Counter(after), Counter(after) - Counter(before)
    relabelled = (_by_input(removed) & _by_input(added)).total()
    return added.total() - relabelled, removed.total() - relabelled, relabelled


def _by_input(rows: Mapping[str, int]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for row, count in rows.items():
        counts[row.partition("-")[0]] += count
    return counts


def _label_shares(before: DataReport, after: DataReport) -> dict[str, tuple[float, float]]:
    old, new = before.splits.get("train"), after.splits.get("train")
    if old is None or new is None:
        return {}
    labels = dict.fromkeys((*old.classes, *new.classes))
    return {
        label: (old.classes.get(label, 0) / max(old.rows, 1), new.classes.get(label, 0) / max(new.rows, 1)) for label in labels
    }


def _row(example: Example) -> str:
    return f"{_digest(normalised(example.input))[:_INPUT_DIGITS]}-{_digest(example.target)[:_TARGET_DIGITS]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
