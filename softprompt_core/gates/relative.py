"""A gate that compares the candidate with the champion or a baseline on the same rows."""

from __future__ import annotations

from dataclasses import dataclass

from softprompt_core.evaluation.paired import USUAL_CONFIDENCE, PairedComparison, compare
from softprompt_core.gates.decision import GateResult
from softprompt_core.gates.scorers import CannotCheck, Scorers, finite_value, require_same_rows
from softprompt_core.gates.threshold import SLACK, finite_threshold
from softprompt_core.gates.wording import percent, relative_reason, scorer_in_words
from softprompt_core.spec.gates import GateSpec


@dataclass(frozen=True)
class Compared:
    """A gate's comparison; whether it passes is known once its p value is corrected for the gate's other slices."""

    gate: GateSpec
    comparison: PairedComparison
    values: tuple[float, float]
    """Of candidate and reference."""
    required: float
    """The least advantage: ``-margin`` or ``by``."""
    interval: tuple[float, float] | None
    p_value: float | None
    """Before the correction; None where the gate sets no confidence."""

    def result(self, p_value: float | None) -> GateResult:
        """The gate's result for the corrected p value."""
        gate, comparison = self.gate, self.comparison
        if p_value is None or gate.confidence is None:
            # `by: 0` asks for any lead at all; every other requirement is reached by an equal value.
            advantage = comparison.advantage
            good = advantage > SLACK if gate.by == 0 else advantage >= self.required - SLACK
        else:
            unlikely = p_value <= 1 - gate.confidence + SLACK
            good = not unlikely if gate.in_doubt == "pass" else unlikely
        return GateResult.of(
            gate,
            "passed" if good else "failed",
            relative_reason(gate, comparison, self.interval, p_value, good),
            candidate=self.values[0],
            reference=self.values[1],
            required=self.required,
            rows=comparison.rows,
            interval=self.interval,
            advantage=comparison.advantage,
            confidence=comparison.confidence,
            test=comparison.test,
            p_value=p_value,
            detectable=comparison.detectable(),
            wins=comparison.wins,
            losses=comparison.losses,
        )


def compare_scorers(gate: GateSpec, scorers: Scorers) -> Compared:
    """Compare candidate and reference by the gate's metric.

    Raises:
        CannotCheck: the gate makes no sense, or a value that it needs is missing or undefined.
    """
    reference = scorers.metrics(str(gate.versus))
    if gate.in_doubt == "pass" and (gate.by is not None or gate.confidence is None):
        raise CannotCheck("`in_doubt: pass` goes with `margin` and `confidence` only")
    if gate.confidence is not None and not 0.5 < gate.confidence < 1:
        raise CannotCheck(f"the gate's confidence is {gate.confidence}, not between 0.5 and 1")
    required = finite_threshold(gate.by if gate.by is not None else 0.0 - (gate.margin or 0.0))
    require_same_rows(gate, scorers.candidate.predictions, reference.predictions)
    scorers.counted_rows(gate)
    values = finite_value(gate, scorers.candidate), finite_value(gate, reference, f" of {scorer_in_words(str(gate.versus))}")
    confidence = gate.confidence or USUAL_CONFIDENCE
    comparison = compare(scorers.candidate, reference, gate.metric, slice=gate.slice, test=gate.test, confidence=confidence)
    interval, p_value = comparison.interval(), None
    if gate.confidence is not None:
        if interval is None:
            sure = percent(gate.confidence)
            raise CannotCheck(f"{gate.metric} is undefined in too many resamples of the test rows to be {sure} sure")
        lenient = gate.in_doubt == "pass"
        p_value = comparison.p_reached(required) if lenient else comparison.p_short(required, strict=gate.by == 0)
    return Compared(gate, comparison, values, required, interval, p_value)
