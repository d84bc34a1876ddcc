"""Holm's correction: many questions asked at once, one error rate for all of them."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p values, in the order given: what is at most ``1 - confidence`` holds together with that confidence.

    Step-down Bonferroni, valid whatever the dependence between the tests (Holm, 1979, Scandinavian Journal of Statistics 6).
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = highest
    return tuple(adjusted)
