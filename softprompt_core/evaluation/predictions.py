"""``Predictions``: what one scorer answered to one list of rows. Metrics and gates read nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Predictions:
    """One scorer's answers to one list of rows; every per-row field has the same length.

    Raises:
        ValueError: the fields disagree about the number of rows or of labels.
    """

    scorer: str
    """``candidate``, ``champion``, ``hard_prompt`` or ``majority``."""
    ids: tuple[str, ...]
    """Name of each row; two ``Predictions`` can be compared only if ids and gold agree."""
    gold: tuple[str, ...]
    """The right answer: a label word, or a text."""
    predicted: tuple[str, ...]
    """The scorer's answer."""
    loss: tuple[float, ...]
    """Classification: negative log-probability of the gold label among the labels. Generation: nats per target token. NaN where
    not defined."""
    slices: Mapping[str, tuple[bool, ...]]
    """Named subsets: one flag a row."""
    labels: tuple[str, ...]
    """Label words in stable order; ``()`` for generation."""
    scores: tuple[tuple[float, ...], ...] = ()
    """Classification: log-probability of every label, ``[rows, labels]``; ``()`` where not defined."""

    def __post_init__(self) -> None:
        per_row: dict[str, Sequence[Any]] = {"gold": self.gold, "predicted": self.predicted, "loss": self.loss}
        per_row |= {f"slice {name!r}": flags for name, flags in self.slices.items()}
        if self.scores:
            per_row["scores"] = self.scores
        for what, values in per_row.items():
            if len(values) != len(self.ids):
                raise ValueError(f"predictions of {self.scorer!r}: {len(self.ids)} ids but {len(values)} values in {what}")
        if any(len(row) != len(self.labels) for row in self.scores):
            raise ValueError(f"predictions of {self.scorer!r}: a row of scores does not have one value for each label")

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
        columns["correct"] = self.correct()
        columns["loss"] = self.loss
        columns |= {f"slice/{name}": flags for name, flags in self.slices.items()}
        if self.scores:
            columns |= {
                f"score/{label}": values for label, values in zip(self.labels, zip(*self.scores, strict=True), strict=True)
            }
        return pd.DataFrame(columns)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; ``from_json`` gives the same predictions back."""
        return {
            "scorer": self.scorer,
            "ids": list(self.ids),
            "gold": list(self.gold),
            "predicted": list(self.predicted),
            "loss": _numbers_to_json(self.loss),
            "slices": {name: [bool(flag) for flag in flags] for name, flags in self.slices.items()},
            "labels": list(self.labels),
            "scores": [_numbers_to_json(row) for row in self.scores],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Predictions:
        """The inverse of ``to_json``. Raises KeyError or ValueError for anything else."""
        return cls(
            scorer=value["scorer"],
            ids=tuple(value["ids"]),
            gold=tuple(value["gold"]),
            predicted=tuple(value["predicted"]),
            loss=_numbers_from_json(value["loss"]),
            slices={name: tuple(flags) for name, flags in value["slices"].items()},
            labels=tuple(value["labels"]),
            scores=tuple(_numbers_from_json(row) for row in value["scores"]),
        )


def _numbers_to_json(values: Iterable[float]) -> list[float | str | None]:
    # JSON has no NaN and no infinities; an impossible label has log-probability -inf.
    return [None if math.isnan(v) else str(float(v)) if math.isinf(v) else float(v) for v in values]


def _numbers_from_json(values: Iterable[float | str | None]) -> tuple[float, ...]:
    return tuple(math.nan if v is None else float(v) for v in values)
