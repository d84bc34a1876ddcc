"""The conditions of a promotion (``Policy``), and what they lead to (``Decision``, ``GateResult``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from softprompt_core.errors import Outcome
from softprompt_core.gates.wording import gate_in_words
from softprompt_core.markdown import markdown_table, number
from softprompt_core.spec.gates import GateSpec

Status = Literal["passed", "failed", "skipped"]

_MARKS: Mapping[str, str] = {"passed": "✓", "failed": "✗", "skipped": "–"}


@dataclass(frozen=True)
class Policy:
    """The conditions for promotion; all gates must pass."""

    gates: tuple[GateSpec, ...]
    approval: Literal["none", "required"] = "none"
    """``required``: a person promotes after the gates have passed."""


class GateResult(BaseModel):
    """The result of one gate. Numbers are None where there is none (never NaN or infinite)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    gate: str
    """The condition in words."""
    status: Status
    reason: str
    """Why it passed, failed or was skipped, for a reader."""
    candidate: float | None = None
    """The candidate's value of the metric."""
    reference: float | None = None
    """The value it is compared with: the threshold, or the champion's or baseline's value on the same rows."""
    required: float | None = None
    """Without `versus` the threshold; with it, the least advantage over the reference: ``-margin`` or ``by``."""
    rows: int | None = None
    """Test rows that the metric is taken over."""
    interval: tuple[float, float] | None = None
    """With `versus`: one-sided lower and one-sided upper bound of the advantage, each at ``confidence``."""
    metric: str = ""
    """As the spec writes it."""
    versus: str | None = None
    """``champion``, ``hard_prompt`` or ``majority``; None for a threshold."""
    slice: str | None = None
    """The slice that was looked at; ``*`` for the summary of every slice; None for all rows."""
    advantage: float | None = None
    """With `versus`: how much better the candidate is (positive: better, also where a lower value is better)."""
    confidence: float | None = None
    """Of ``interval`` and ``detectable``: the gate's own, or 0.95 for information where the gate sets none."""
    test: str | None = None
    """With `versus`: where ``interval`` and ``p_value`` come from, ``mcnemar`` or ``bootstrap``."""
    p_value: float | None = None
    """Where the gate sets `confidence`: one-sided. `in_doubt: fail`: of such rows if the advantage is below the required one;
    `in_doubt: pass`: of such rows if it reaches that. Corrected by Holm's method where several slices are checked."""
    detectable: float | None = None
    """With `versus`: the smallest true difference that these rows would have shown in four of five tests (80 % power)."""
    wins: int | None = None
    """McNemar only: rows that the candidate alone has right."""
    losses: int | None = None
    """McNemar only: rows that the reference alone has right."""
    parts: tuple[GateResult, ...] = ()
    """For ``slice: "*"``: one result a slice."""

    @classmethod
    def of(cls, gate: GateSpec, status: Status, reason: str, **numbers: Any) -> GateResult:
        """The result of this gate. Raises ValueError for numbers that are not finite."""
        condition = {"metric": gate.metric, "versus": gate.versus, "slice": gate.slice}
        return cls(gate=gate_in_words(gate), status=status, reason=reason, **condition, **numbers)


class Decision(BaseModel):
    """Whether a candidate may become champion, and why."""

    model_config = ConfigDict(frozen=True)

    passed: bool
    """Every gate that applies passed, and at least one did."""
    outcome: Outcome
    """``promoted``, ``rejected`` or ``awaiting_approval``."""
    verdict: str
    """One plain sentence."""
    results: tuple[GateResult, ...] = ()
    """One entry a gate, in the order of the spec."""

    def lines(self) -> Iterator[tuple[bool, GateResult]]:
        """Every gate in order, each followed by its slices; True for a slice of the gate above."""
        for result in self.results:
            yield False, result
            yield from ((True, part) for part in result.parts)

    def to_markdown(self) -> str:
        """The verdict, then a table of gates."""
        return f"{self.verdict}\n\n{self.gates_table()}".rstrip() + "\n"

    def gates_table(self) -> str:
        """The gates alone as a markdown table; empty without gates."""
        if not self.results:
            return ""
        rows = (
            (
                _MARKS[r.status],
                f"– {r.slice}" if is_part else r.gate,
                number(r.candidate),
                number(r.reference),
                difference(r),
                "–" if r.rows is None else str(r.rows),
                number(r.detectable),
                r.reason,
            )
            for is_part, r in self.lines()
        )
        headings = ("", "Gate", "Candidate", "Reference", "Better by", "Rows", "Can show", "Reason")
        return markdown_table(headings, rows, numbers=(2, 3, 4, 5, 6))

    def to_text(self) -> str:
        """For terminals: the verdict, then one line a gate and a slice."""
        shown = [(f"  – {r.slice}" if is_part else r.gate, r) for is_part, r in self.lines()]
        width = max((len(name) for name, _ in shown), default=0)
        return "\n".join([self.verdict, *(f"  {_MARKS[r.status]} {name:<{width}}  {r.reason}{_power(r)}" for name, r in shown)])


def _power(result: GateResult) -> str:
    """What the rows of a comparison could have shown, so that nobody reads a small difference as a finding."""
    return "" if result.detectable is None else f" [{result.rows} rows can show {result.detectable:.2g}]"


def difference(result: GateResult) -> str:
    """The advantage with its bounds: ``+0.012 [-0.004, +0.028]``; a dash without a comparison."""
    if result.advantage is None:
        return "–"
    bounds = f" [{result.interval[0]:+.3g}, {result.interval[1]:+.3g}]" if result.interval else ""
    return f"{result.advantage + 0.0:+.4g}{bounds}"
