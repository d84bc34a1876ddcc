"""From prepared rows to the data report and its warnings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from softprompt_core.data.overlap import find_repeated
from softprompt_core.data.report import BadRow, DataReport, Leak, RepeatedInput, SplitReport, word_histogram
from softprompt_core.data.rows import CleanRows
from softprompt_core.data.task_data import Example

_POINTS, _ERRORS = 0.05, 3.0


def make_report(
    examples: Mapping[str, Sequence[Example]],
    clean: CleanRows,
    rows_read: Mapping[str, int],
    labels: Sequence[str],
    slices: Sequence[str],
    about_labels: Sequence[str] = (),
) -> DataReport:
    """Put together what is known about a task's data.

    Args:
        examples: split → examples that are used.
        clean: the rows behind the examples, and those that were taken out.
        rows_read: split of the source → rows there.
        labels: the label words; empty for generation.
        slices: names of the slices.
        about_labels: warnings about the labels themselves.
    """
    duplicates, conflicts = find_repeated(clean.splits)
    splits = {split: _split(used, rows_read.get(split), labels, slices) for split, used in examples.items()}
    return DataReport(
        splits=splits,
        duplicates=tuple(duplicates),
        conflicts=tuple(conflicts),
        leakage=tuple(clean.leaks),
        bad_rows=tuple(clean.bad),
        warnings=(*_warnings(splits, conflicts, clean.leaks, clean.bad), *about_labels),
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
    warnings += [words for name in ("validation", "test") if (words := _other_balance(splits["train"], splits[name], name))]
    warnings += [f"No test row is in the slice {name!r}." for name, count in splits["test"].slices.items() if not count]
    return warnings


def _other_balance(train: SplitReport, other: SplitReport, name: str) -> str | None:
    """A warning if a class has clearly another share of a split's rows than of the training rows.

    Clearly: by 5 points and by 3 standard errors of a difference of two shares.
    """
    for label, count in other.classes.items():
        shares = train.classes[label] / train.rows, count / other.rows
        together = (train.classes[label] + count) / (train.rows + other.rows)
        error = math.sqrt(together * (1 - together) * (1 / train.rows + 1 / other.rows))
        if abs(shares[1] - shares[0]) > max(_POINTS, _ERRORS * error):
            words = f"{shares[0]:.1%} of the train rows and {shares[1]:.1%} of the {name} rows"
            return f"The classes are not balanced alike: {label!r} has {words}; an answer that is always the same may score well."
    return None


def _were(count: int, noun: str) -> str:
    return f"1 {noun} was" if count == 1 else f"{count} {noun}s were"
