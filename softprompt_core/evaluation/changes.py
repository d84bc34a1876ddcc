"""Test rows that two scorers answered differently: the worse ones first, because a reviewer has to look at those."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

from softprompt_core.evaluation.metrics import headline_by_row
from softprompt_core.evaluation.predictions import Predictions

Kind = Literal["worse", "better", "other"]

_WORDS: Mapping[Kind, str] = {"worse": "worse", "better": "better", "other": "neither better nor worse"}


class ChangedAnswer(BaseModel):
    """One row. ``other``: neither side is nearer to the gold answer."""

    model_config = ConfigDict(frozen=True)

    kind: Kind
    id: str
    input: str
    gold: str
    before: str
    after: str


class ChangedAnswers(BaseModel):
    """All rows with two different answers, worse ones first."""

    model_config = ConfigDict(frozen=True)

    compared: int
    """Rows that both sides answered."""
    changed: tuple[ChangedAnswer, ...]

    def of(self, kind: Kind) -> tuple[ChangedAnswer, ...]:
        """The rows of one kind."""
        return tuple(row for row in self.changed if row.kind == kind)

    def __str__(self) -> str:
        if not self.changed:
            return f"all {self.compared} test answers are the same"
        counts = ", ".join(f"{len(self.of(kind))} {words}" for kind, words in _WORDS.items() if self.of(kind))
        return f"{len(self.changed)} of {self.compared} test answers changed: {counts}"


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
    gains = headline_by_row(after) - headline_by_row(before)
    changed: list[tuple[float, ChangedAnswer]] = []
    for gain, id, gold, old, new in zip(gains, after.ids, after.gold, before.predicted, after.predicted, strict=True):
        if old != new:
            kind: Kind = "worse" if gain < 0 else "better" if gain > 0 else "other"
            answer = ChangedAnswer(kind=kind, id=id, input=inputs.get(id, ""), gold=gold, before=old, after=new)
            changed.append((abs(gain), answer))
    order = list(_WORDS)
    changed.sort(key=lambda entry: (order.index(entry[1].kind), -entry[0]))
    return ChangedAnswers(compared=len(after), changed=tuple(answer for _, answer in changed))


def same_rows(one: Predictions, other: Predictions) -> bool:
    """Whether two scorers answered rows of the same names with the same gold answers."""
    return one.ids == other.ids and one.gold == other.gold
