"""From prepared rows to the data report and its warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from softprompt_core.data.overlap import find_repeated
from softprompt_core.data.report import BadRow, DataReport, Leak, RepeatedInput, SplitReport, word_histogram
from softprompt_core.data.rows import Row
from softprompt_core.data.task_data import Example


def make_report(
    examples: Mapping[str, Sequence[Example]],
    rows_read: Mapping[str, int],
    rows: Mapping[str, Sequence[Row]],
    labels: Sequence[str],
    slices: Sequence[str],
    leaks: Sequence[Leak],
    bad: Sequence[BadRow],
) -> DataReport:
    """Put together what was found.

    Args:
        examples: split → examples that are used.
        rows_read: split of the source → rows there.
        rows: split → the rows behind the examples.
        labels: the label words; empty for generation.
        slices: names of the slices.
        leaks: rows removed because another split holds the same input.
        bad: rows set aside.
    """
    duplicates, conflicts = find_repeated(rows)
    splits = {split: _split(found, rows_read.get(split), labels, slices) for split, found in examples.items()}
    return DataReport(
        splits=splits,
        duplicates=tuple(duplicates),
        conflicts=tuple(conflicts),
        leakage=tuple(leaks),
        bad_rows=tuple(bad),
        warnings=tuple(_warnings(splits, conflicts, leaks, bad)),
    )


def _split(examples: Sequence[Example], rows_read: int | None, labels: Sequence[str], slices: Sequence[str]) -> SplitReport:
    classes = Counter(example.target for example in examples)
    members = Counter(name for example in examples for name in example.slices)
    return SplitReport(
        rows_read=rows_read,
        rows=len(examples),
        classes={word: classes[word] for word in labels},
        words=word_histogram(example.input for example in examples),
        slices={name: members[name] for name in slices},
    )


def _warnings(
    splits: Mapping[str, SplitReport], conflicts: Sequence[RepeatedInput], leaks: Sequence[Leak], bad: Sequence[BadRow]
) -> list[str]:
    found = []
    if bad:
        found.append(f"{_were(len(bad), 'row')} set aside because a field is empty, not text or an unknown label.")
    for (gone, stays), count in Counter((leak.removed_from, leak.stands_in) for leak in leaks).items():
        found.append(f"Leakage: {_were(count, 'row')} removed from {gone} because the same input stands in {stays}.")
    for split, count in Counter(conflict.split for conflict in conflicts).items():
        found.append(f"{_were(count, 'input')} found in {split} more than once with different targets.")
    for name in ("validation", "test"):
        found += [f"No {name} row has the label {label!r}." for label, count in splits[name].classes.items() if not count]
    found += [f"No test row is in the slice {name!r}." for name, count in splits["test"].slices.items() if not count]
    return found


def _were(count: int, noun: str) -> str:
    return f"1 {noun} was" if count == 1 else f"{count} {noun}s were"
