"""From prepared rows to the data report and its warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from softprompt_core.data.overlap import find_repeated
from softprompt_core.data.report import BadRow, DataReport, Leak, RepeatedInput, SplitReport, word_histogram
from softprompt_core.data.rows import CleanRows
from softprompt_core.data.task_data import Example


def make_report(
    examples: Mapping[str, Sequence[Example]],
    clean: CleanRows,
    rows_read: Mapping[str, int],
    labels: Sequence[str],
    slices: Sequence[str],
) -> DataReport:
    """Put together what is known about a task's data.

    Args:
        examples: split → examples that are used.
        clean: the rows behind the examples, and those that were taken out.
        rows_read: split of the source → rows there.
        labels: the label words; empty for generation.
        slices: names of the slices.
    """
    duplicates, conflicts = find_repeated(clean.splits)
    splits = {split: _split(used, rows_read.get(split), labels, slices) for split, used in examples.items()}
    return DataReport(
        splits=splits,
        duplicates=tuple(duplicates),
        conflicts=tuple(conflicts),
        leakage=tuple(clean.leaks),
        bad_rows=tuple(clean.bad),
        warnings=tuple(_warnings(splits, conflicts, clean.leaks, clean.bad)),
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
    warnings = []
    if bad:
        warnings.append(f"{_were(len(bad), 'row')} set aside because a field is empty, not text or an unknown label.")
    for (source, other), count in Counter((leak.removed_from, leak.stands_in) for leak in leaks).items():
        warnings.append(f"Leakage: {_were(count, 'row')} removed from {source} because the same input stands in {other}.")
    for split, count in Counter(conflict.split for conflict in conflicts).items():
        warnings.append(f"{_were(count, 'input')} found in {split} more than once with different targets.")
    for name in ("validation", "test"):
        warnings += [f"No {name} row has the label {label!r}." for label, count in splits[name].classes.items() if not count]
    warnings += [f"No test row is in the slice {name!r}." for name, count in splits["test"].slices.items() if not count]
    return warnings


def _were(count: int, noun: str) -> str:
    return f"1 {noun} was" if count == 1 else f"{count} {noun}s were"
