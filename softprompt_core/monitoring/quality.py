"""Is the champion worse on new rows than it was on the test rows when it was promoted?

Both accuracies are estimates over a limited number of rows, and the rows are not the same: a two-sample comparison, not a
comparison of a number with a stored number.
"""

from __future__ import annotations

import math

import numpy as np

from softprompt_core.evaluation import Predictions, headline_by_row, headline_metric
from softprompt_core.monitoring.health import HealthCheck

_POWER_Z = 0.8416212335729143  # of 80 %: the smallest drop that four of five such tests would show


def quality_check(new: Predictions, promoted: Predictions, *, margin: float, confidence: float) -> HealthCheck:
    """Test whether the headline metric (accuracy, or ROUGE-L for generation) has fallen by more than ``margin``.

    ``worse`` if the one-sided upper bound of ``new - promoted`` lies below ``-margin``: Newcombe's interval for accuracy,
    Welch's for ROUGE-L.

    Args:
        new: the champion's answers to new labelled rows.
        promoted: its answers to the test rows at promotion.
        margin: in the metric's own units.
        confidence: in (0.5, 1).
    """
    from scipy.stats import norm

    metric, right_or_wrong = headline_metric(promoted.labels), bool(promoted.labels)
    now, before = headline_by_row(new), headline_by_row(promoted)
    if min(len(now), len(before)) < 2:
        reason = f"{metric} cannot be compared over {len(now)} fresh and {len(before)} test rows"
        return HealthCheck(what=metric, status="unknown", reason=reason)
    change = float(now.mean() - before.mean())
    if right_or_wrong:
        low, high = newcombe(int(now.sum()), len(now), int(before.sum()), len(before), confidence)
    else:
        low, high = welch(now, before, confidence)
    error = math.sqrt(_variance(now, right_or_wrong) + _variance(before, right_or_wrong))
    detectable = margin + (float(norm.ppf(confidence)) + _POWER_Z) * error
    worse = high < -margin
    words = f"{abs(change):.3g} {'lower' if change < 0 else 'higher'} than" if abs(change) > 1e-12 else "equal to"
    reason = (
        f"{metric} {now.mean():.4g} on {len(now)} fresh rows is {words} the {before.mean():.4g} on {len(before)} test rows"
        f" at promotion (between {low:+.3g} and {high:+.3g}): "
    )
    reason += (
        f"a drop of more than {margin:g} is {100 * confidence:g}% sure"
        if worse
        else f"no sure drop of more than {margin:g}; one of {detectable:.2g} would probably have been seen"
    )
    numbers = {"fresh": float(now.mean()), "promoted": float(before.mean()), "change": change, "low": low, "high": high}
    status = "worse" if worse else "ok"
    return HealthCheck(what=metric, status=status, reason=reason, numbers={**numbers, "detectable": detectable})


def newcombe(hits_a: int, rows_a: int, hits_b: int, rows_b: int, confidence: float) -> tuple[float, float]:
    """One-sided lower and upper bound, each at ``confidence``, of a difference of two independent proportions ``a - b``.

    Newcombe (1998), "Interval estimation for the difference between independent proportions", Statistics in Medicine 17, method
    10: Wilson's score intervals put together. It keeps its promise near 0 and 1, where a normal interval does not.
    """
    from scipy.stats import binomtest

    def wilson(hits: int, rows: int) -> tuple[float, float, float]:
        interval = binomtest(hits, rows).proportion_ci(2 * confidence - 1, method="wilson")
        return hits / rows, float(interval.low), float(interval.high)

    a, low_a, high_a = wilson(hits_a, rows_a)
    b, low_b, high_b = wilson(hits_b, rows_b)
    return a - b - math.hypot(a - low_a, high_b - b), a - b + math.hypot(high_a - a, b - low_b)


def welch(a: np.ndarray, b: np.ndarray, confidence: float) -> tuple[float, float]:
    """One-sided lower and upper bound, each at ``confidence``, of ``mean(a) - mean(b)`` (Welch, 1947)."""
    from scipy.stats import ttest_ind

    change = float(a.mean() - b.mean())
    if not a.var() and not b.var():
        return change, change
    interval = ttest_ind(a, b, equal_var=False).confidence_interval(2 * confidence - 1)
    return float(interval.low), float(interval.high)


def _variance(rows: np.ndarray, right_or_wrong: bool) -> float:
    """Of the mean. Shares get one hit and one miss more (Agresti & Caffo, 2000): 20 of 20 right is not certainty."""
    if not right_or_wrong:
        return float(rows.var(ddof=1)) / len(rows)
    share = (rows.sum() + 1) / (len(rows) + 2)
    return float(share * (1 - share)) / (len(rows) + 2)
