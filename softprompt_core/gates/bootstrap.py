"""Paired bootstrap: how sure is a difference between two scorers on the same rows."""

from __future__ import annotations

import math

import numpy as np

from softprompt_core.evaluation.metrics import Metric

RESAMPLES = 2000
_SEED = 20210418  # a constant: the same predictions must always lead to the same decision


def paired_interval(
    candidate: Metric, reference: Metric, rows: np.ndarray, confidence: float, sign: float
) -> tuple[float, float]:
    """One-sided lower and one-sided upper bound of ``sign * (candidate - reference)``, each at ``confidence``.

    Percentile bootstrap (Efron & Tibshirani, 1993, ch. 13): both scorers see the same resampled rows, so that what makes a row
    easy or hard cancels out. A resample in which the metric is undefined (a label that occurs nowhere in it) counts as the
    worst case for either bound.

    Args:
        candidate: metric of the candidate as a function of row numbers.
        reference: the same of the reference.
        rows: the row numbers to resample, ``[n]``, n > 0.
        confidence: in (0.5, 1).
        sign: 1, or -1 where a lower value is better.
    """
    generator = np.random.default_rng(_SEED)
    differences = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        drawn = rows[generator.integers(0, len(rows), len(rows))]
        differences[index] = sign * (candidate(drawn) - reference(drawn))
    undefined = ~np.isfinite(differences)
    # `lower` and `higher` take a value that occurred: interpolation beside an infinity would give NaN.
    low = np.quantile(np.where(undefined, -math.inf, differences), 1 - confidence, method="lower")
    high = np.quantile(np.where(undefined, math.inf, differences), confidence, method="higher")
    return float(low), float(high)
