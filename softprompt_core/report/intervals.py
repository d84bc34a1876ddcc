"""Percentile bootstrap intervals over the test rows (Efron & Tibshirani, 1993, ch. 13), for figures and reports.

Gates have their own tests; what is drawn here is always two-sided at 95 %, whatever a gate asks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from softprompt_core.evaluation import LOWER_IS_BETTER, Predictions, metric_function, slice_rows

CONFIDENCE = 0.95
_RESAMPLES = 1000
_SEED = 20210418  # a constant: the same answers are always drawn the same

Interval = tuple[float, float, float]
"""Value, lower bound, upper bound."""


def interval(predictions: Predictions, metric: str, *, slice: str | None = None) -> Interval | None:
    """One scorer's metric; None where it is undefined."""
    value = metric_function(predictions, metric)
    return None if value is None else _interval(value, slice_rows(predictions, slice))


def advantage(candidate: Predictions, reference: Predictions, metric: str, *, slice: str | None = None) -> Interval | None:
    """The candidate's advantage (positive: better), paired over the rows; None where it is undefined."""
    new, old = metric_function(candidate, metric), metric_function(reference, metric)
    if new is None or old is None:
        return None
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    return _interval(lambda rows: sign * (new(rows) - old(rows)), slice_rows(candidate, slice))


def _interval(function: Callable[[np.ndarray], float], rows: np.ndarray) -> Interval | None:
    if not len(rows) or not math.isfinite(value := function(rows)):
        return None
    generator = np.random.default_rng(_SEED)
    drawn = np.array([function(rows[generator.integers(0, len(rows), len(rows))]) for _ in range(_RESAMPLES)])
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < 0.9 * _RESAMPLES:
        return None
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return value, float(low), float(high)
