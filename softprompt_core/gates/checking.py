"""One gate: what it finds. Whatever is missing or odd is a failed gate, with the reason."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from softprompt_core.evaluation import LOWER_IS_BETTER, Predictions, metric_function, metric_names, metric_rows, slice_rows
from softprompt_core.evaluation.metrics import Metric
from softprompt_core.gates.comparison import Comparison, compare
from softprompt_core.gates.decision import GateResult, Status
from softprompt_core.gates.holm import holm
from softprompt_core.gates.wording import gate_in_words, percent, reference_name, relative_reason, written
from softprompt_core.spec.gates import EVERY_SLICE, FACTS, GateSpec

# 17/20 - 0.8 is 0.04999999999999993: a value that equals its threshold in decimal must not fail in binary.
_SLACK = 1e-12
_USUAL = 0.95  # confidence of what is shown for information, where the gate asks for none


class _Unmet(Exception):
    """A gate that cannot be judged; the message is the reason."""


class _TooFew(_Unmet):
    """The metric is taken over fewer rows than the gate asks for."""


@dataclass(frozen=True)
class _Scorers:
    candidate: Predictions
    champion: Predictions | None
    baselines: Mapping[str, Predictions]
    facts: Mapping[str, float]


def check(
    gate: GateSpec,
    candidate: Predictions,
    champion: Predictions | None,
    baselines: Mapping[str, Predictions],
    facts: Mapping[str, float],
) -> GateResult:
    """The result of one gate. Raises nothing."""
    unreadable = GateResult("unreadable gate", "failed", "")
    try:
        unreadable = _result(gate, "failed", "", None)
        if gate.versus == "champion" and champion is None:
            return _result(gate, "skipped", "there is no champion yet", None)
        scorers = _Scorers(candidate, champion, baselines, facts)
        return _every_slice(gate, scorers) if gate.slice == EVERY_SLICE else next(_results((gate,), scorers))
    except _Unmet as unmet:
        return _result(gate, "failed", str(unmet), candidate)
    except Exception as error:
        # Total by contract: a surprise in one gate must stop the promotion, not the lifecycle with its report.
        return replace(unreadable, reason=f"could not be checked: {type(error).__name__}: {error}")


def _every_slice(gate: GateSpec, scorers: _Scorers) -> GateResult:
    """One result for all slices: each is checked, and together they keep the gate's confidence.

    A slice with too few rows is named and left out, because any rare value would block promotion else; one gate with no slice
    that is large enough fails.
    """
    names = list(scorers.candidate.slices)
    gates = [gate.model_copy(update={"slice": name}) for name in names]
    large, parts = [], dict[str, GateResult]()
    for part in gates:
        try:
            _count(part, scorers.candidate)
            large.append(part)
        except _TooFew as few:
            parts[str(part.slice)] = _result(part, "skipped", f"{few}: not checked", scorers.candidate)
    parts |= {str(part.slice): found for part, found in zip(large, _results(large, scorers), strict=True)}
    found = tuple(parts[name] for name in names)
    failed, passed = [r for r in found if r.status == "failed"], [r for r in found if r.status == "passed"]
    left_out = [str(r.slice) for r in found if r.status == "skipped"]
    if failed:
        worst = min(failed, key=lambda r: r.advantage if r.advantage is not None else -math.inf)
        reason = f"{len(failed)} of {len(failed) + len(passed)} slices failed: {worst.slice}: {worst.reason}"
    elif passed:
        reason = f"{len(passed)} {'slice' if len(passed) == 1 else 'slices'} passed"
    else:
        reason = f"no slice has the {gate.min_examples} rows that are needed" if names else "there are no slices"
    if left_out:
        reason += f"; too few rows to check: {', '.join(left_out)}"
    return replace(_result(gate, "passed" if passed and not failed else "failed", reason, None), parts=found)


def _results(gates: Sequence[GateSpec], scorers: _Scorers) -> Iterator[GateResult]:
    """The results of gates that differ in their slice only, their p values corrected for one another."""
    measured: list[_Measured | GateResult] = []
    for gate in gates:
        try:
            measured.append(_absolute(gate, scorers) if gate.versus is None else _relative(gate, scorers))
        except _Unmet as unmet:
            measured.append(_result(gate, "failed", str(unmet), scorers.candidate))
    compared = [m for m in measured if isinstance(m, _Measured)]
    corrected = iter(holm([m.p_value for m in compared if m.p_value is not None]))
    for found in measured:
        yield found if isinstance(found, GateResult) else found.judged(None if found.p_value is None else next(corrected))


def _result(gate: GateSpec, status: Status, reason: str, candidate: Predictions | None) -> GateResult:
    """A result with no numbers but, for a candidate, the count of its rows."""
    rows = None if candidate is None else _rows_or_none(gate, candidate)
    return GateResult(gate_in_words(gate), status, reason, rows=rows, metric=gate.metric, versus=gate.versus, slice=gate.slice)


def _absolute(gate: GateSpec, scorers: _Scorers) -> GateResult:
    if gate.at_least is None and gate.at_most is None:
        raise _Unmet("the gate sets no condition")
    low, high = (None if v is None else _finite(v) for v in (gate.at_least, gate.at_most))
    if gate.metric in FACTS:
        value, rows = _fact(gate, scorers.facts), None
    else:
        rows = _count(gate, scorers.candidate)
        value = _measure(gate, scorers.candidate)[0]
    if low is not None and value < low - _SLACK:
        good, reason, bound = False, f"{written(value)} is below {written(low)}", low
    elif high is not None and value > high + _SLACK:
        good, reason, bound = False, f"{written(value)} is above {written(high)}", high
    elif low is not None and high is not None:
        bound = low if value - low <= high - value else high
        good, reason = True, f"{written(value)} is between {written(low)} and {written(high)}"
    else:
        bound = low if low is not None else high if high is not None else math.nan
        good, reason = True, f"{written(value)} {'reaches' if low is not None else 'is within'} {written(bound)}"
    found = _result(gate, "passed" if good else "failed", reason, None)
    return replace(found, candidate=value, reference=bound, required=bound, rows=rows)


@dataclass(frozen=True)
class _Measured:
    """A comparison that is only to be judged, once its p value is corrected."""

    gate: GateSpec
    comparison: Comparison
    required: float
    p_value: float | None
    result: GateResult

    def judged(self, p_value: float | None) -> GateResult:
        gate, found = self.gate, self.comparison
        if p_value is None or gate.confidence is None:
            # `by: 0` asks for any lead at all; every other requirement is reached by an equal value.
            good = found.advantage > _SLACK if self._strict else found.advantage >= self.required - _SLACK
        else:
            unlikely = p_value <= 1 - gate.confidence + _SLACK
            good = not unlikely if gate.in_doubt == "pass" else unlikely
        reason = relative_reason(gate, found, self.result.interval, p_value, good)
        return replace(self.result, status="passed" if good else "failed", reason=reason, p_value=p_value)

    @property
    def _strict(self) -> bool:
        return self.gate.by == 0


def _relative(gate: GateSpec, scorers: _Scorers) -> _Measured:
    name = reference_name(gate)
    reference = scorers.champion if gate.versus == "champion" else scorers.baselines.get(str(gate.versus))
    if reference is None:
        raise _Unmet(f"{name} was not evaluated")
    if gate.in_doubt == "pass" and (gate.by is not None or gate.confidence is None):
        raise _Unmet("`in_doubt: pass` goes with `margin` and `confidence` only")
    if gate.confidence is not None and not 0.5 < gate.confidence < 1:
        raise _Unmet(f"the gate's confidence is {gate.confidence}, not between 0.5 and 1")
    required = _finite(gate.by if gate.by is not None else 0.0 - (gate.margin or 0.0))
    _same_rows(gate, scorers.candidate, reference, name)
    rows = _count(gate, scorers.candidate)
    value, function = _measure(gate, scorers.candidate)
    other, other_function = _measure(gate, reference, f" of {name}")
    found = compare(
        scorers.candidate,
        reference,
        (function, other_function),
        gate.metric,
        slice=gate.slice,
        test=gate.test,
        confidence=gate.confidence or _USUAL,
        advantage=(-1.0 if gate.metric in LOWER_IS_BETTER else 1.0) * (value - other),
    )
    interval, p_value = found.interval(), None
    if gate.confidence is not None:
        if interval is None:
            sure = percent(gate.confidence)
            raise _Unmet(f"{gate.metric} is undefined in too many resamples of the test rows to be {sure} sure")
        strict = gate.by == 0
        p_value = found.p_reached(required) if gate.in_doubt == "pass" else found.p_short(required, strict=strict)
    result = replace(
        _result(gate, "failed", "not judged yet", None),
        candidate=value,
        reference=other,
        required=required,
        rows=rows,
        interval=interval,
        advantage=found.advantage,
        confidence=found.confidence,
        test=found.test,
        detectable=found.detectable(),
        wins=found.wins,
        losses=found.losses,
    )
    return _Measured(gate, found, required, p_value, result)


def _fact(gate: GateSpec, facts: Mapping[str, float]) -> float:
    if gate.slice is not None:
        raise _Unmet(f"{gate.metric} is about the prompt itself and has no slices")
    value = facts.get(gate.metric)
    if value is None or not math.isfinite(value):
        raise _Unmet(f"{gate.metric} of the candidate is not known")
    return float(value)


def _count(gate: GateSpec, candidate: Predictions) -> int:
    """Rows that the candidate's metric is taken over. Raises _TooFew, and _Unmet where there can be none."""
    _known(gate, candidate, "")
    count = metric_rows(candidate, gate.metric, slice=gate.slice)
    if count < gate.min_examples:
        raise _TooFew(f"only {count} test rows for {gate.metric}, {gate.min_examples} needed")
    return count


def _known(gate: GateSpec, predictions: Predictions, whose: str) -> None:
    if gate.metric not in metric_names(predictions):
        kind = "classification" if predictions.labels else "generation"
        known = ", ".join(metric_names(predictions)[:12])
        raise _Unmet(f"{gate.metric} is not a metric of this {kind} task{whose}; known: {known}")
    if gate.slice is not None and gate.slice not in predictions.slices:
        raise _Unmet(f"slice {gate.slice} is missing from the predictions{whose}")


def _measure(gate: GateSpec, predictions: Predictions, whose: str = "") -> tuple[float, Metric]:
    """The gate's metric, finite, and its function of row numbers."""
    _known(gate, predictions, whose)
    function, rows = metric_function(predictions, gate.metric), slice_rows(predictions, gate.slice)
    value = function(rows) if function is not None and len(rows) else math.nan
    if function is None or not math.isfinite(value):
        raise _Unmet(f"{gate.metric}{whose} has no finite value (it is {value})")
    return value, function


def _same_rows(gate: GateSpec, candidate: Predictions, reference: Predictions, name: str) -> None:
    same = candidate.ids == reference.ids and candidate.gold == reference.gold
    if gate.slice is not None and same:
        same = np.array_equal(slice_rows(candidate, gate.slice), slice_rows(reference, gate.slice))
    if not same:
        raise _Unmet(f"not the same rows: candidate and {name} must be evaluated on identical test rows")


def _finite(threshold: float) -> float:
    if not math.isfinite(threshold):
        raise _Unmet(f"the gate's threshold is {threshold}, not a finite number")
    return float(threshold)


def _rows_or_none(gate: GateSpec, candidate: Predictions) -> int | None:
    try:
        return None if gate.metric in FACTS else metric_rows(candidate, gate.metric, slice=gate.slice)
    except Exception:
        return None
