"""Two scorers that are right or wrong on the same rows: how sure is the difference of their shares, and what could be shown.

``wins`` are the rows that the candidate alone has right, ``losses`` those that the reference alone has right, ``rows`` all.
Rows on which both are right, or both wrong, tell nothing about which is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

POWER = 0.8
_NORMAL = NormalDist()
_ZERO = 1e-12  # a smaller difference would only underflow below
_STEPS = 60  # of bisection: halves an interval of length 2 to below 1e-17


def mcnemar_p(wins: int, losses: int) -> float:
    """One-sided p value of McNemar's exact test: this many wins or more, were wins and losses equally likely.

    The binomial tail over the rows that differ (McNemar, 1947, Psychometrika 12, in its exact conditional form); 1 without any.
    """
    from scipy.special import bdtrc

    return float(bdtrc(wins - 1, wins + losses, 0.5)) if wins else 1.0


def score(wins: int, losses: int, rows: int, difference: float) -> float:
    """Tango's score statistic, standard normal if the true difference of the shares is ``difference``; falls as that rises.

    McNemar's statistic for a difference other than zero (Tango, 1998, Statistics in Medicine 17, 891-908); for zero it is
    McNemar's own ``(wins - losses) / sqrt(wins + losses)``.
    """
    if abs(difference) < _ZERO:
        difference = 0.0
    # The share of losses is estimated under the assumption that the difference is true, which is what makes the method hold on
    # small samples and where no row differs.
    a = 2.0 * rows
    b = -wins - losses + (2.0 * rows - wins + losses) * difference
    c = -losses * difference * (1 - difference)
    share = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = rows * (2 * share + difference * (1 - difference))
    distance = wins - losses - rows * difference
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def score_p(wins: int, losses: int, rows: int, difference: float) -> float:
    """One-sided p value of a true difference of ``difference`` or less; a difference of 1 or more cannot be shown."""
    if difference <= -1 or difference >= 1:
        return 0.0 if difference < 0 else 1.0
    return 1 - _NORMAL.cdf(score(wins, losses, rows, difference))


def score_interval(wins: int, losses: int, rows: int, confidence: float) -> tuple[float, float]:
    """One-sided lower and one-sided upper bound of the difference, each at ``confidence``: Tango's interval."""
    z = _NORMAL.inv_cdf(confidence)
    return (
        _crossing(lambda difference: score(wins, losses, rows, difference) <= z),
        _crossing(lambda difference: score(wins, losses, rows, difference) <= -z),
    )


def detectable(differing: int, rows: int, confidence: float) -> float | None:
    """The smallest difference that a one-sided paired test at ``confidence`` finds with 80 % power; None if none is.

    Solves the sample size ``n = (z_c √ψ + z_p √(ψ − Δ²))² / Δ²`` for Δ (Miettinen, 1968; Connor, 1987, Biometrics 43, 207-211).
    ψ is the share of rows that differ, as observed; a Δ above it takes that many differing rows, so that also a test without any
    has an answer.
    """
    z, power = _NORMAL.inv_cdf(confidence), _NORMAL.inv_cdf(POWER)
    # Rows that all differ in one direction halve the exact test's p value each.
    possible = 0.5**rows <= 1 - confidence

    def enough(delta: float) -> bool:
        psi = max(differing / rows, delta)
        return rows * delta**2 >= (z * math.sqrt(psi) + power * math.sqrt(psi - delta**2)) ** 2

    return _crossing(enough, 0.0, 1.0) if possible and enough(1.0) else None


def _crossing(true_above: Callable[[float], bool], low: float = -1.0, high: float = 1.0) -> float:
    """Where a condition that is false below and true above becomes true."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if true_above(middle) else (middle, high)
    return high
