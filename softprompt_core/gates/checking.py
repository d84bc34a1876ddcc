"""One gate and its result. Whatever is missing or odd is a failed gate, with the reason."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

from softprompt_core.evaluation import counted_rows
from softprompt_core.evaluation.holm import holm
from softprompt_core.gates.decision import GateResult, Status
from softprompt_core.gates.relative import Compared, compare_scorers
from softprompt_core.gates.scorers import CannotCheck, Scorers, TooFewRows
from softprompt_core.gates.threshold import check_threshold
from softprompt_core.spec.gates import EVERY_SLICE, FACTS, GateSpec


def check(gate: GateSpec, scorers: Scorers) -> GateResult:
    """The result of one gate. Raises nothing."""
    unreadable = GateResult(gate="unreadable gate", status="failed", reason="")
    try:
        unreadable = GateResult.of(gate, "failed", "")
        if gate.versus == "champion" and not scorers.has_champion:
            return GateResult.of(gate, "skipped", "there is no champion yet")
        return _every_slice(gate, scorers) if gate.slice == EVERY_SLICE else next(_results((gate,), scorers))
    except CannotCheck as problem:
        return _unchecked(gate, "failed", str(problem), scorers)
    except Exception as error:
        # Total by contract: a surprise in one gate must stop the promotion, not the lifecycle with its report.
        return unreadable.model_copy(update={"reason": f"could not be checked: {type(error).__name__}: {error}"})


def _every_slice(gate: GateSpec, scorers: Scorers) -> GateResult:
    """One result for all slices: each is checked, and together they keep the gate's confidence.

    A slice with too few rows is named and left out, because otherwise any rare value would block promotion; a gate without one
    slice that is large enough fails.
    """
    names = list(scorers.candidate.predictions.slices)
    large, results = [], dict[str, GateResult]()
    for name in names:
        part = gate.model_copy(update={"slice": name})
        try:
            scorers.counted_rows(part)
            large.append(part)
        except TooFewRows as problem:
            results[name] = _unchecked(part, "skipped", f"{problem}: not checked", scorers)
    results |= {str(part.slice): result for part, result in zip(large, _results(large, scorers), strict=True)}
    parts = tuple(results[name] for name in names)
    failed, passed = [r for r in parts if r.status == "failed"], [r for r in parts if r.status == "passed"]
    left_out = [str(r.slice) for r in parts if r.status == "skipped"]
    if failed:
        worst = min(failed, key=lambda r: r.advantage if r.advantage is not None else -math.inf)
        reason = f"{len(failed)} of {len(failed) + len(passed)} slices failed: {worst.slice}: {worst.reason}"
    elif passed:
        reason = f"{len(passed)} {'slice' if len(passed) == 1 else 'slices'} passed"
    else:
        reason = f"no slice has the {gate.min_examples} rows that are needed" if names else "there are no slices"
    if left_out:
        reason += f"; too few rows to check: {', '.join(left_out)}"
    return GateResult.of(gate, "passed" if passed and not failed else "failed", reason, parts=parts)


def _results(gates: Sequence[GateSpec], scorers: Scorers) -> Iterator[GateResult]:
    """The results of gates that differ in their slice only, their p values corrected for one another."""
    measured: list[Compared | GateResult] = []
    for gate in gates:
        try:
            measured.append(check_threshold(gate, scorers) if gate.versus is None else compare_scorers(gate, scorers))
        except CannotCheck as problem:
            measured.append(_unchecked(gate, "failed", str(problem), scorers))
    corrected = iter(holm([m.p_value for m in measured if isinstance(m, Compared) and m.p_value is not None]))
    for result in measured:
        if isinstance(result, GateResult):
            yield result
        else:
            yield result.result(None if result.p_value is None else next(corrected))


def _unchecked(gate: GateSpec, status: Status, reason: str, scorers: Scorers) -> GateResult:
    """A result with no numbers but, where it can be told, the count of the candidate's rows."""
    rows = None
    if gate.metric not in FACTS:
        with contextlib.suppress(Exception):
            rows = len(counted_rows(scorers.candidate.predictions, gate.metric, slice=gate.slice))
    return GateResult.of(gate, status, reason, rows=rows)
