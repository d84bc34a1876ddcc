"""Candidate against reference on the same rows: the difference, how sure it is, and what these rows could have shown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from softprompt_core.evaluation import bootstrap
from softprompt_core.evaluation import paired_proportions as proportions
from softprompt_core.evaluation.bootstrap import Resampled
from softprompt_core.evaluation.metrics import LOWER_IS_BETTER, PredictionMetrics, counted_rows, slice_rows
from softprompt_core.spec.gates import right_or_wrong

USUAL_CONFIDENCE = 0.95
"""Of an interval that is shown for information, where nobody asks for another confidence."""


@dataclass(frozen=True, eq=False)
class PairedComparison:
    """One metric of two scorers on the same rows."""

    advantage: float
    """How much better the candidate is; positive is better, also for metrics where a lower value is."""
    rows: int
    confidence: float
    wins: int | None = None
    losses: int | None = None
    resampled: Resampled | None = None

    @property
    def test(self) -> str:
        return "bootstrap" if self.resampled is not None else "mcnemar"

    def interval(self) -> tuple[float, float] | None:
        """One-sided lower and upper bound of the advantage; None where the metric is undefined in too many resamples."""
        if self.resampled is not None:
            low, high = self.resampled.interval(self.confidence)
            return (low, high) if math.isfinite(low) and math.isfinite(high) else None
        return proportions.score_interval(*self._counts(), self.confidence)

    def p_short(self, required: float, *, strict: bool) -> float:
        """How likely such rows are if the true advantage is below ``required`` (``strict``: or equal). Small: it is not."""
        if self.resampled is not None:
            return self.resampled.p_below(required, strict=strict)
        wins, losses, rows = self._counts()
        return proportions.score_p(wins, losses, rows, required) if required else proportions.mcnemar_p(wins, losses)

    def p_reached(self, required: float) -> float:
        """How likely such rows are if the true advantage is ``required`` or more. Small: it is not."""
        if self.resampled is not None:
            return self.resampled.p_reached(required)
        wins, losses, rows = self._counts()
        return proportions.score_p(losses, wins, rows, -required) if required else proportions.mcnemar_p(losses, wins)

    def detectable(self) -> float | None:
        """The smallest true difference that these rows would show with 80 % power; None where that cannot be told.

        With the bootstrap ``(z_c + z_p)`` standard errors, the usual normal approximation.
        """
        if self.resampled is None:
            wins, losses, rows = self._counts()
            return proportions.detectable(wins + losses, rows, self.confidence)
        error, normal = self.resampled.standard_error(), NormalDist()
        return None if error is None else error * (normal.inv_cdf(self.confidence) + normal.inv_cdf(proportions.POWER))

    def _counts(self) -> tuple[int, int, int]:
        assert self.wins is not None and self.losses is not None
        return self.wins, self.losses, self.rows


def compare(
    candidate: PredictionMetrics,
    reference: PredictionMetrics,
    metric: str,
    *,
    slice: str | None = None,
    test: str = "auto",
    confidence: float = USUAL_CONFIDENCE,
) -> PairedComparison:
    """Compare on the rows of a slice, or on all.

    Args:
        candidate, reference: on the same rows; the metric is defined for both on them.
        test: ``auto``, ``mcnemar`` or ``bootstrap``.
        confidence: of the interval, in (0.5, 1).

    Raises:
        ValueError: an unknown metric or test, or ``mcnemar`` for a metric that is not the share of right rows.
    """
    new, old = candidate.function(metric), reference.function(metric)
    if new is None or old is None:
        raise ValueError(f"{metric} is not a metric of both scorers")
    rows, counted = slice_rows(candidate.predictions, slice), counted_rows(candidate.predictions, metric, slice=slice)
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    advantage = sign * (new(rows) - old(rows))
    if test == "bootstrap" or (test == "auto" and not right_or_wrong(metric)):
        return PairedComparison(advantage, len(counted), confidence, resampled=bootstrap.resample(new, old, rows, sign))
    if test not in ("auto", "mcnemar") or not right_or_wrong(metric):
        raise ValueError(f"the test {test} does not apply to {metric}")
    ours, theirs = (np.asarray(m.predictions.correct(), dtype=bool)[counted] for m in (candidate, reference))
    return PairedComparison(advantage, len(counted), confidence, int((ours & ~theirs).sum()), int((theirs & ~ours).sum()))
