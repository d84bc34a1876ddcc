"""Paired bootstrap: how sure is a difference between two scorers on the same rows, for any metric."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from softprompt_core.evaluation.metrics import Metric

RESAMPLES = 2000
_SEED = 20210418  # a constant: the same predictions must always lead to the same decision
_SLACK = 1e-12


@dataclass(frozen=True, eq=False)
class Resampled:
    """Differences ``[RESAMPLES]`` between two scorers over resampled rows, positive where the candidate is better.

    Percentile bootstrap (Efron & Tibshirani, 1993, ch. 13): both scorers see the same resampled rows, so that what makes a row
    easy or hard cancels out. A resample in which the metric is undefined (a label that occurs nowhere in it) is not finite, and
    counts as the worst case for whatever is to be shown.
    """

    differences: np.ndarray

    def interval(self, confidence: float) -> tuple[float, float]:
        """One-sided lower and one-sided upper bound, each at ``confidence`` in (0.5, 1); infinite where undefined."""
        undefined = ~np.isfinite(self.differences)
        # `lower` and `higher` take a value that occurred: interpolation beside an infinity would give NaN.
        low = np.quantile(np.where(undefined, -math.inf, self.differences), 1 - confidence, method="lower")
        high = np.quantile(np.where(undefined, math.inf, self.differences), confidence, method="higher")
        return float(low), float(high)

    def p_below(self, required: float, *, strict: bool = False) -> float:
        """One-sided p value of an advantage below ``required`` (``strict``: or equal to it), by inverting the interval.

        ``(1 + count) / (1 + resamples)`` (Davison & Hinkley, 1997, ch. 4), so that it is never zero.
        """
        reached = self.differences > required + _SLACK if strict else self.differences >= required - _SLACK
        return self._share(~reached)

    def p_reached(self, required: float) -> float:
        """One-sided p value of an advantage of ``required`` or more."""
        return self._share(~(self.differences < required - _SLACK))

    def standard_error(self) -> float | None:
        """Of the difference; None if it is undefined in a resample, or if no resample differs from another."""
        if not np.isfinite(self.differences).all():
            return None
        return float(self.differences.std(ddof=1)) or None

    def _share(self, against: np.ndarray) -> float:
        # A comparison with NaN is false, so an undefined resample is always among those against.
        return (1 + int(against.sum())) / (1 + len(self.differences))


def resample(candidate: Metric, reference: Metric, rows: np.ndarray, sign: float) -> Resampled:
    """Differences of a metric over resampled rows.

    Args:
        candidate: metric of the candidate as a function of row numbers.
        reference: the same of the reference.
        rows: the row numbers to resample, ``[n]``, n > 0.
        sign: 1, or -1 where a lower value is better.
    """
    generator = np.random.default_rng(_SEED)
    differences = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        drawn = rows[generator.integers(0, len(rows), len(rows))]
        differences[index] = sign * (candidate(drawn) - reference(drawn))
    return Resampled(differences)
