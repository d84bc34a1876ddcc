"""Inputs that occur more than once: inside a split they are reported, across splits they leak and are removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from softprompt_core.data.report import Leak, RepeatedInput
from softprompt_core.data.rows import Row

# A split gives way to those before it: test is what the gates look at, so it never loses a row.
_PRECEDENCE = ("test", "validation", "train")


def remove_leaks(splits: Mapping[str, Sequence[Row]]) -> tuple[dict[str, list[Row]], list[Leak]]:
    """Remove from train what stands in validation or test, and from validation what stands in test. Test keeps every row."""
    seen: dict[str, tuple[str, str]] = {}  # key → (split, id) of the first row that keeps it
    kept: dict[str, list[Row]] = {}
    leaks = []
    for split in _PRECEDENCE:
        if split not in splits:
            continue
        kept[split] = [row for row in splits[split] if row.key not in seen]
        for row in splits[split]:
            if row.key in seen:
                stands_in, other = seen[row.key]
                leaks.append(Leak(id=row.id, removed_from=split, stands_in=stands_in, as_id=other))
        for row in kept[split]:
            seen.setdefault(row.key, (split, row.id))
    return {split: kept[split] for split in splits}, leaks


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
                found = RepeatedInput(split, tuple(row.id for row in group), targets)
                (conflicting if len(targets) > 1 else agreeing).append(found)
    return agreeing, conflicting
