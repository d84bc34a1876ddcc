"""What changed between two states of the data, from hashes of rows."""

from __future__ import annotations

import json

from softprompt_core.data import DataReport, Example, SplitReport, data_changes, row_hashes
from softprompt_core.data.report import WORD_BINS


def rows(*pairs: tuple[str, str]) -> tuple[Example, ...]:
    return tuple(Example(f"train/{i}", text, target, frozenset()) for i, (text, target) in enumerate(pairs))


def report(examples: tuple[Example, ...]) -> DataReport:
    classes = {label: sum(e.target == label for e in examples) for label in ("no", "yes")}
    words = (0,) * (len(WORD_BINS) + 1)
    split = SplitReport(rows_read=None, rows=len(examples), classes=classes, words=words, slices={})
    return DataReport(splits={"train": split}, duplicates=(), conflicts=(), leakage=(), bad_rows=(), warnings=())


def changes(before: tuple[Example, ...], after: tuple[Example, ...]) -> str:
    changed = data_changes(report(before), report(after), row_hashes({"train": before}), row_hashes({"train": after}))
    return str(changed.splits[0])


BEFORE = rows(("one", "no"), ("two", "no"), ("three", "yes"), ("three", "yes"))


def test_order_case_and_blanks_change_nothing() -> None:
    assert changes(BEFORE, rows(("Three", "yes"), ("three ", "yes"), ("two", "no"), ("one", "no"))) == "train: the same 4 rows"


def test_added_removed_and_relabelled_rows_are_told_apart() -> None:
    after = rows(("one", "yes"), ("three", "yes"), ("four", "no"), ("five", "no"), ("six", "no"))
    assert changes(BEFORE, after) == "train: 4 → 5 rows, 3 added, 2 removed, 1 with another answer"


def test_label_shares_are_those_of_the_training_rows() -> None:
    after = rows(("one", "yes"))
    changed = data_changes(report(BEFORE), report(after), None, row_hashes({"train": after}))
    assert changed.labels == {"no": (0.5, 0.0), "yes": (0.5, 1.0)}
    assert str(changed.splits[0]) == "train: 4 → 1 rows"  # without hashes of before nothing more is known


def test_hashes_keep_no_text() -> None:
    text = json.dumps(row_hashes({"train": rows(("a secret sentence", "yes"))}))
    assert "secret" not in text and "yes" not in text
