"""``Predictions``: what one scorer answered to one list of rows. Metrics and gates read nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, model_validator

if TYPE_CHECKING:
    import pandas as pd


def _from_json(values: Any) -> Any:
    """Null in place of a number is NaN; other values are left to the field's own check."""
    if not isinstance(values, (list, tuple)) or None not in values:
        return values
    return [math.nan if value is None else value for value in values]


def _to_json(values: Iterable[float]) -> list[float | str | None]:
    # JSON has no NaN and no infinities; an impossible label has log-probability -inf.
    return [v if math.isfinite(v) else None if math.isnan(v) else str(v) for v in values]


def _rows_from_json(rows: Any) -> Any:
    return [_from_json(row) for row in rows] if isinstance(rows, list) else rows  # a tuple was made by this program


def _rows_to_json(rows: Iterable[Iterable[float]]) -> list[list[float | str | None]]:
    return [_to_json(row) for row in rows]


class Predictions(BaseModel):
    """One scorer's answers to one list of rows; every per-row field has the same length.

    Raises:
        ValueError: the fields disagree about the number of rows or of labels.
    """

    model_config = ConfigDict(frozen=True)

    scorer: str
    """``candidate``, ``champion``, ``hard_prompt`` or ``majority``."""
    ids: tuple[str, ...]
    """Name of each row; two ``Predictions`` can be compared only if ids and gold agree."""
    gold: tuple[str, ...]
    """The right answer: a label word, or a text."""
    predicted: tuple[str, ...]
    """The scorer's answer."""
    loss: Annotated[tuple[float, ...], BeforeValidator(_from_json), PlainSerializer(_to_json, when_used="json")]
    """Classification: negative log-probability of the gold label among the labels. Generation: nats per target token. NaN where
    not defined."""
    slices: Mapping[str, tuple[bool, ...]]
    """Named subsets: one flag a row."""
    labels: tuple[str, ...]
    """Label words in stable order; ``()`` for generation."""
    scores: Annotated[
        tuple[tuple[float, ...], ...], BeforeValidator(_rows_from_json), PlainSerializer(_rows_to_json, when_used="json")
    ] = ()
    """Classification: log-probability of every label, ``[rows, labels]``; ``()`` where not defined. In JSON, here as in ``loss``,
    NaN is null and an infinity is the text ``inf`` or ``-inf``."""

    @model_validator(mode="after")
    def _equal_lengths(self) -> Self:
        per_row: dict[str, Sequence[Any]] = {"gold": self.gold, "predicted": self.predicted, "loss": self.loss}
        per_row |= {f"slice {name!r}": flags for name, flags in self.slices.items()}
        if self.scores:
            per_row["scores"] = self.scores
        for field, values in per_row.items():
            if len(values) != len(self.ids):
                raise ValueError(f"predictions of {self.scorer!r}: {len(self.ids)} ids but {len(values)} values in {field}")
        if any(len(row) != len(self.labels) for row in self.scores):
            raise ValueError(f"predictions of {self.scorer!r}: a row of scores does not have one value for each label")
        return self

    def __len__(self) -> int:
        return len(self.ids)

    def correct(self) -> tuple[bool, ...]:
        """Whether each answer is the gold one; for generation without regard to space and line breaks at either end."""
        pairs = zip(self.gold, self.predicted, strict=True)
        return tuple(g == p if self.labels else g.strip() == p.strip() for g, p in pairs)

    def to_frame(self) -> pd.DataFrame:
        """One row an example: id, gold, predicted, correct, loss, then ``slice/<name>`` and ``score/<label>`` columns."""
        import pandas as pd

        columns: dict[str, Any] = {"id": self.ids, "gold": self.gold, "predicted": self.predicted}
        columns |= {"correct": self.correct(), "loss": self.loss}
        columns |= {f"slice/{name}": flags for name, flags in self.slices.items()}
        if self.scores:
            by_label = zip(self.labels, zip(*self.scores, strict=True), strict=True)
            columns |= {f"score/{label}": values for label, values in by_label}
        return pd.DataFrame(columns)
