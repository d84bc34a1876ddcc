"""Inputs that occur more than once: inside a split they are reported, across splits they leak and are removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from softprompt_core.data.report import Leak, RepeatedInput
from softprompt_core.data.rows import Row

# A split gives way to those before it: test is what the gates look at, so it never loses a row.
_PRECEDENCE = ("test", "validation", "train")


def remove_leaks(splits: Mapping[str, Sequence[Row]]) -> tuple[dict[str, list[Row]], list[Leak]]:
    """Remove from train what stands in validation or test, and from validation what stands in test. Test keeps every row."""
    first: dict[str, tuple[str, Row]] = {}  # key → the first row that keeps it, and its split
    kept: dict[str, list[Row]] = {split: [] for split in splits}
    leaks = []
    for split in _PRECEDENCE:
        for row in splits.get(split, ()):
            stays_in, other = first.setdefault(row.key, (split, row))
            if stays_in == split:
                kept[split].append(row)
            else:
                leaks.append(Leak(id=row.id, removed_from=split, stands_in=stays_in, as_id=other.id))
    return kept, leaks


def find_repeated(splits: Mapping[str, Sequence[Row]]) -> tuple[list[RepeatedInput], list[RepeatedInput]]:
    """Inputs that occur more than once within a split: those with one target, and those with different targets."""
    agreeing: list[RepeatedInput] = []
    conflicting: list[RepeatedInput] = []
    for split, rows in splits.items():
        groups: dict[str, list[Row]] = {}
        for row in rows:
            groups.setdefault(row.key, []).append(row)
        for group in groups.values():
            if len(group) > 1:
                targets = tuple(dict.fromkeys(row.target for row in group))
                repeated = RepeatedInput(split=split, ids=tuple(row.id for row in group), targets=targets)
                (conflicting if len(targets) > 1 else agreeing).append(repeated)
    return agreeing, conflicting
