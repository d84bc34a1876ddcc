"""``decide``: may this candidate become champion? Pure, total and fail-closed: whatever is missing or odd is a failed gate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from softprompt_core.errors import Outcome
from softprompt_core.evaluation import LOWER_IS_BETTER, Predictions, metric_function, metric_names, metric_rows, slice_rows
from softprompt_core.evaluation.metrics import Metric
from softprompt_core.gates.bootstrap import paired_interval
from softprompt_core.gates.decision import Decision, GateResult, Policy
from softprompt_core.spec.models import GateSpec

# 17/20 - 0.8 is 0.04999999999999993: a value that equals its threshold in decimal must not fail in binary.
_SLACK = 1e-12
_NO_BASELINES: Mapping[str, Predictions] = MappingProxyType({})
_NAMES = {"champion": "the champion", "hard_prompt": "the hard prompt", "majority": "the majority class"}


def decide(
    candidate: Predictions, champion: Predictions | None, policy: Policy, baselines: Mapping[str, Predictions] = _NO_BASELINES
) -> Decision:
    """Check every gate of the policy; promotion needs all to pass.

    Nothing is read but the arguments, nothing is raised, and equal arguments give equal decisions.

    Args:
        candidate: the new prompt on the test rows.
        champion: the current champion re-scored on the same rows; None for a first version: gates against the champion are
            skipped then, and at least one other gate must pass.
        policy: gates and approval.
        baselines: ``hard_prompt`` and ``majority`` on the same rows.
    """
    results = tuple(_check(gate, candidate, champion, baselines) for gate in policy.gates)
    failed = [result for result in results if result.status == "failed"]
    passed = [result for result in results if result.status == "passed"]
    if not results:
        return Decision(False, Outcome.REJECTED, "No gates, no promotion: the spec sets no condition, so nothing can meet it.")
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        verdict = f"{len(failed)} of {_gates(len(results))} failed: {failed[0].gate}: {failed[0].reason}{more}."
        return Decision(False, Outcome.REJECTED, verdict, results)
    if not passed:
        verdict = "A first version needs at least one gate that does not compare with a champion, and the spec sets none."
        return Decision(False, Outcome.REJECTED, verdict, results)
    skipped = len(results) - len(passed)
    if skipped:
        verdict = f"{_gates(len(passed))} passed, {skipped} skipped because there is no champion to compare with"
    else:
        verdict = f"{'The only gate' if len(passed) == 1 else f'All {len(passed)} gates'} passed"
    if policy.approval == "none":
        return Decision(True, Outcome.PROMOTED, f"{verdict}.", results)
    return Decision(True, Outcome.AWAITING_APPROVAL, f"{verdict}; a person must approve.", results)


def gate_in_words(gate: GateSpec) -> str:
    """The condition of a gate as a phrase: ``accuracy on slice long no worse than the champion by more than 0.02``."""
    where = f"{gate.metric} on slice {gate.slice}" if gate.slice is not None else gate.metric
    if gate.versus is None:
        return f"{where} at least {gate.at_least:g}" if gate.at_least is not None else f"{where} at most {_written(gate.at_most)}"
    name = _NAMES.get(gate.versus, gate.versus)
    sure = f", {100 * gate.confidence:g}% sure" if gate.confidence is not None else ""
    if gate.by is not None:
        return f"{where} better than {name} by at least {gate.by:g}{sure}"
    allowed = f" by more than {gate.margin:g}" if gate.margin else ""
    return f"{where} no worse than {name}{allowed}{sure}"


class _Unmet(Exception):
    """A gate that cannot be judged; the message is the reason."""


def _check(
    gate: GateSpec, candidate: Predictions, champion: Predictions | None, baselines: Mapping[str, Predictions]
) -> GateResult:
    words = "unreadable gate"
    try:
        words = gate_in_words(gate)
        if gate.versus is None:
            return _absolute(gate, words, candidate)
        if gate.versus == "champion" and champion is None:
            return GateResult(words, "skipped", "there is no champion yet")
        return _relative(gate, words, candidate, champion if gate.versus == "champion" else baselines.get(gate.versus))
    except _Unmet as unmet:
        return GateResult(words, "failed", str(unmet), rows=_rows_or_none(gate, candidate))
    except Exception as error:
        # Total by contract: a surprise in one gate must stop the promotion, not the lifecycle with its report.
        return GateResult(words, "failed", f"could not be checked: {type(error).__name__}: {error}")


def _absolute(gate: GateSpec, words: str, candidate: Predictions) -> GateResult:
    lower_bound = gate.at_least is not None
    threshold = _finite_threshold(gate.at_least if lower_bound else gate.at_most)
    value, _ = _measure(gate, candidate)
    good = value >= threshold - _SLACK if lower_bound else value <= threshold + _SLACK
    relation = ("reaches" if good else "is below") if lower_bound else ("is within" if good else "is above")
    reason = f"{value:.6g} {relation} {threshold:g}"
    rows = metric_rows(candidate, gate.metric, slice=gate.slice)
    return GateResult(words, "passed" if good else "failed", reason, value, threshold, threshold, rows)


def _relative(gate: GateSpec, words: str, candidate: Predictions, reference: Predictions | None) -> GateResult:
    name = _NAMES.get(str(gate.versus), str(gate.versus))
    if reference is None:
        raise _Unmet(f"{name} was not evaluated")
    required = _finite_threshold(gate.by if gate.by is not None else 0.0 - (gate.margin or 0.0))
    _same_rows(gate, candidate, reference, name)
    value, function = _measure(gate, candidate)
    other, other_function = _measure(gate, reference, f" of {name}")
    sign = -1.0 if gate.metric in LOWER_IS_BETTER else 1.0
    advantage = sign * (value - other)
    interval, proven, detail = None, advantage, ""
    if gate.confidence is not None:
        rows = slice_rows(candidate, gate.slice)
        low, high = paired_interval(function, other_function, rows, gate.confidence, sign)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise _Unmet(
                f"{gate.metric} is undefined in too many resamples of the test rows to be {100 * gate.confidence:g}% sure"
            )
        interval, proven = (low, high), low
        detail = f"; with {100 * gate.confidence:g}% confidence at least {low:+.6g}"
    good = proven >= required - _SLACK
    reason = f"{_difference(advantage)} {name}{detail}, {'enough' if good else 'not enough'}: {required:+g} is required"
    count = metric_rows(candidate, gate.metric, slice=gate.slice)
    return GateResult(words, "passed" if good else "failed", reason, value, other, required, count, interval)


def _measure(gate: GateSpec, predictions: Predictions, whose: str = "") -> tuple[float, Metric]:
    """The gate's metric, finite and over enough rows, and its function of row numbers."""
    if gate.metric not in metric_names(predictions):
        kind = "classification" if predictions.labels else "generation"
        known = ", ".join(metric_names(predictions)[:12])
        raise _Unmet(f"{gate.metric} is not a metric of this {kind} task{whose}; known: {known}")
    if gate.slice is not None and gate.slice not in predictions.slices:
        raise _Unmet(f"slice {gate.slice} is missing from the predictions{whose}")
    count = metric_rows(predictions, gate.metric, slice=gate.slice)
    if not whose and count < gate.min_examples:
        raise _Unmet(f"only {count} test rows for {gate.metric}, {gate.min_examples} needed")
    function = metric_function(predictions, gate.metric)
    value = function(slice_rows(predictions, gate.slice)) if function is not None and count else math.nan
    if function is None or not math.isfinite(value):
        raise _Unmet(f"{gate.metric}{whose} has no finite value (it is {value})")
    return value, function


def _same_rows(gate: GateSpec, candidate: Predictions, reference: Predictions, name: str) -> None:
    same = candidate.ids == reference.ids and candidate.gold == reference.gold
    if gate.slice is not None and same:
        same = np.array_equal(slice_rows(candidate, gate.slice), slice_rows(reference, gate.slice))
    if not same:
        raise _Unmet(f"not the same rows: candidate and {name} must be evaluated on identical test rows")


def _finite_threshold(value: float | None) -> float:
    if value is None:
        raise _Unmet("the gate sets no condition")
    if not math.isfinite(value):
        raise _Unmet(f"the gate's threshold is {value}, not a finite number")
    return float(value)


def _difference(advantage: float) -> str:
    if abs(advantage) <= _SLACK:
        return "equal to"
    return f"{abs(advantage):.6g} {'better' if advantage > 0 else 'worse'} than"


def _written(value: float | None) -> str:
    return "nothing" if value is None else f"{value:g}"


def _rows_or_none(gate: GateSpec, candidate: Predictions) -> int | None:
    try:
        return metric_rows(candidate, gate.metric, slice=gate.slice)
    except Exception:
        return None


def _gates(count: int) -> str:
    return f"{count} gate{'' if count == 1 else 's'}"
