"""Gates and their results as phrases."""

from __future__ import annotations

from collections.abc import Mapping

from softprompt_core.evaluation.paired import PairedComparison
from softprompt_core.spec.gates import EVERY_SLICE, GateSpec

_NAMES: Mapping[str, str] = {"champion": "the champion", "hard_prompt": "the hard prompt", "majority": "the majority class"}
_NOTHING = 1e-12


def gate_in_words(gate: GateSpec) -> str:
    """The condition of a gate as a phrase: ``accuracy on slice long no worse than the champion by more than 0.02``."""
    where = gate.metric
    if gate.slice is not None:
        where += " on every slice" if gate.slice == EVERY_SLICE else f" on slice {gate.slice}"
    if gate.versus is None:
        if gate.at_least is not None and gate.at_most is not None:
            return f"{where} between {written(gate.at_least)} and {written(gate.at_most)}"
        bound = ("at least", gate.at_least) if gate.at_least is not None else ("at most", gate.at_most)
        return f"{where} {bound[0]} {written(bound[1])}"
    name = scorer_in_words(str(gate.versus))
    sure = f", {percent(gate.confidence)} sure" if gate.confidence is not None else ""
    if gate.by is not None:
        return f"{where} better than {name}{f' by at least {written(gate.by)}' if gate.by else ''}{sure}"
    allowed = f" by more than {written(gate.margin)}" if gate.margin else ""
    if gate.in_doubt == "pass":
        return f"{where} not shown to be worse than {name}{allowed}{sure}"
    return f"{where} no worse than {name}{allowed}{sure}"


def scorer_in_words(name: str) -> str:
    """``the champion`` for ``champion``; an unknown name as it is."""
    return _NAMES.get(name, name)


def relative_reason(
    gate: GateSpec, comparison: PairedComparison, interval: tuple[float, float] | None, p_value: float | None, good: bool
) -> str:
    """Why a comparison passed or failed: the difference, and how sure it is. What is required stands in the gate's own words."""
    words = f"{_difference(comparison.advantage)} {scorer_in_words(str(gate.versus))}"
    if comparison.wins is not None:
        words += f" ({comparison.wins} rows gained, {comparison.losses} lost)"
    if p_value is None or interval is None:
        return words
    shown = good if gate.in_doubt == "fail" else not good
    bound, direction = (interval[1], "less") if gate.in_doubt == "pass" else (interval[0], "more")
    if shown:
        words += f"; {percent(comparison.confidence)} sure of {bound:+.2g} or {direction}"
    else:
        words += f"; may be as {'high' if gate.in_doubt == 'pass' else 'low'} as {bound:+.2g}"
    return f"{words} (p = {p_value:.2g})"


def percent(confidence: float | None) -> str:
    return f"{100 * (confidence or 0):g}%"


def written(value: float | None) -> str:
    """A number as a person would write it; whole numbers in full."""
    if value is None:
        return "nothing"
    whole = abs(value) < 1e15 and float(value).is_integer()
    return f"{value:.0f}" if whole else f"{value:.6g}"


def _difference(advantage: float) -> str:
    if abs(advantage) <= _NOTHING:
        return "equal to"
    return f"{abs(advantage):.3g} {'better' if advantage > 0 else 'worse'} than"
