"""A gate that compares the candidate's metric, or a fact about the prompt, with a number."""

from __future__ import annotations

import math

from softprompt_core.gates.decision import GateResult, Status
from softprompt_core.gates.scorers import CannotCheck, Scorers, finite_value
from softprompt_core.gates.wording import written
from softprompt_core.spec.gates import FACTS, GateSpec

SLACK = 1e-12
"""17/20 - 0.8 is 0.04999999999999993: a value that equals its threshold in decimal must not fail in binary."""


def check_threshold(gate: GateSpec, scorers: Scorers) -> GateResult:
    """The result of ``at_least``, ``at_most`` or both.

    Raises:
        CannotCheck: there is no condition or no value.
    """
    if gate.at_least is None and gate.at_most is None:
        raise CannotCheck("the gate sets no condition")
    low, high = (None if bound is None else finite_threshold(bound) for bound in (gate.at_least, gate.at_most))
    if gate.metric in FACTS:
        value, rows = scorers.fact(gate), None
    else:
        rows = scorers.counted_rows(gate)
        value = finite_value(gate, scorers.candidate)
    good, bound, reason = _within(value, low, high)
    status: Status = "passed" if good else "failed"
    return GateResult.of(gate, status, reason, candidate=value, reference=bound, required=bound, rows=rows)


def finite_threshold(threshold: float) -> float:
    """Raises CannotCheck for a threshold that is not finite."""
    if not math.isfinite(threshold):
        raise CannotCheck(f"the gate's threshold is {threshold}, not a finite number")
    return float(threshold)


def _within(value: float, low: float | None, high: float | None) -> tuple[bool, float, str]:
    """Whether a value is within the bounds, the bound that it is nearest to or breaks, and why."""
    if low is not None and value < low - SLACK:
        return False, low, f"{written(value)} is below {written(low)}"
    if high is not None and value > high + SLACK:
        return False, high, f"{written(value)} is above {written(high)}"
    if low is not None and high is not None:
        nearest = low if value - low <= high - value else high
        return True, nearest, f"{written(value)} is between {written(low)} and {written(high)}"
    if low is not None:
        return True, low, f"{written(value)} reaches {written(low)}"
    assert high is not None
    return True, high, f"{written(value)} is within {written(high)}"
