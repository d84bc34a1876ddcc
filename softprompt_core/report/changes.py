"""Test rows that two scorers answered differently: the worse ones first, because they are what a reviewer has to judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from softprompt_core.evaluation import Predictions, metric_function

Kind = Literal["worse", "better", "other"]


@dataclass(frozen=True)
class ChangedAnswer:
    """One row. ``other``: neither side is nearer to the gold answer."""

    kind: Kind
    id: str
    input: str
    gold: str
    before: str
    after: str


@dataclass(frozen=True)
class ChangedAnswers:
    """All rows with two different answers, worse ones first."""

    rows: tuple[ChangedAnswer, ...]
    compared: int
    """Rows that both sides answered."""

    def of(self, kind: Kind) -> tuple[ChangedAnswer, ...]:
        return tuple(row for row in self.rows if row.kind == kind)

    def __str__(self) -> str:
        if not self.rows:
            return f"all {self.compared} test answers are the same"
        counts = ", ".join(f"{len(self.of(kind))} {words}" for kind, words in _WORDS.items() if self.of(kind))
        return f"{len(self.rows)} of {self.compared} test answers changed: {counts}"

    def to_json(self) -> dict[str, Any]:
        return {"compared": self.compared, "changed": [asdict(row) for row in self.rows]}


_WORDS: Mapping[Kind, str] = {"worse": "worse", "better": "better", "other": "neither better nor worse"}


def changed_answers(before: Predictions, after: Predictions, inputs: Mapping[str, str]) -> ChangedAnswers:
    """Compare two scorers row by row.

    Nearer to gold means right instead of wrong for classification, and a higher ROUGE-L for generation.

    Args:
        before, after: on the same rows.
        inputs: row id → text; a missing one is left empty.

    Raises:
        ValueError: the rows are not the same.
    """
    if not same_rows(before, after):
        raise ValueError(f"{before.scorer} and {after.scorer} did not answer the same rows")
    gain = _goodness(after) - _goodness(before)
    found = []
    for place, row in enumerate(after.ids):
        old, new = before.predicted[place], after.predicted[place]
        if old == new:
            continue
        kind: Kind = "worse" if gain[place] < 0 else "better" if gain[place] > 0 else "other"
        found.append((gain[place], place, ChangedAnswer(kind, row, inputs.get(row, ""), after.gold[place], old, new)))
    order = {"worse": 0, "better": 1, "other": 2}
    found.sort(key=lambda entry: (order[entry[2].kind], -abs(entry[0]), entry[1]))
    return ChangedAnswers(tuple(entry[2] for entry in found), len(after))


def same_rows(one: Predictions, other: Predictions) -> bool:
    """Whether two scorers answered rows of the same names with the same gold answers."""
    return one.ids == other.ids and one.gold == other.gold


def _goodness(predictions: Predictions) -> np.ndarray:
    """How good each answer is, ``[rows]``."""
    if predictions.labels:
        return np.asarray(predictions.correct(), dtype=float)
    value = metric_function(predictions, "rougeL")
    assert value is not None  # generation always has it
    return np.array([value(np.array([row])) for row in range(len(predictions))])
