"""What a decision is made by (``Policy``), and what it says (``Decision``, ``GateResult``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from softprompt_core.errors import Outcome
from softprompt_core.markdown import markdown_table, number
from softprompt_core.spec.models import GateSpec

Status = Literal["passed", "failed", "skipped"]

_MARKS: Mapping[str, str] = {"passed": "✓", "failed": "✗", "skipped": "–"}


@dataclass(frozen=True)
class Policy:
    """The conditions for promotion; all gates must pass."""

    gates: tuple[GateSpec, ...]
    approval: Literal["none", "required"] = "none"
    """``required``: a person promotes after the gates have passed."""


@dataclass(frozen=True)
class GateResult:
    """What one gate found. Numbers are None where there is none (never NaN or infinite)."""

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
    """Without `versus` the threshold; with it, the least advantage over the reference: ``-margin`` or ``at_least_by``."""
    rows: int | None = None
    """Test rows that the metric is taken over."""
    interval: tuple[float, float] | None = None
    """With `confidence`: one-sided lower and upper bound of the advantage over the reference (positive: better)."""


@dataclass(frozen=True)
class Decision:
    """Whether a candidate may become champion, and why."""

    passed: bool
    """Every gate that applies passed, and at least one did."""
    outcome: Outcome
    """``promoted``, ``rejected`` or ``awaiting_approval``."""
    verdict: str
    """One plain sentence."""
    results: tuple[GateResult, ...] = ()
    """One entry a gate, in the order of the spec."""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; ``from_json`` gives an equal decision back."""
        value = asdict(self) | {"outcome": self.outcome.value}
        value["results"] = [r | {"interval": list(r["interval"]) if r["interval"] else None} for r in value["results"]]
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Decision:
        """The inverse of ``to_json``. Raises KeyError, TypeError or ValueError for anything else."""
        results = tuple(
            GateResult(**(r | {"interval": tuple(r["interval"]) if r["interval"] else None})) for r in value["results"]
        )
        return cls(bool(value["passed"]), Outcome(value["outcome"]), value["verdict"], results)

    def to_markdown(self) -> str:
        """The verdict, then a table of gates."""
        return f"{self.verdict}\n\n{self.gates_table()}".rstrip() + "\n"

    def gates_table(self) -> str:
        """The gates alone as a markdown table; empty without gates."""
        if not self.results:
            return ""
        rows = (
            (_MARKS[r.status], r.gate, number(r.candidate), number(r.reference), "–" if r.rows is None else str(r.rows), r.reason)
            for r in self.results
        )
        return markdown_table(("", "Gate", "Candidate", "Reference", "Rows", "Reason"), rows, numbers=(2, 3, 4))

    def to_text(self) -> str:
        """For terminals: the verdict, then one line a gate."""
        width = max((len(r.gate) for r in self.results), default=0)
        return "\n".join([self.verdict, *(f"  {_MARKS[r.status]} {r.gate:<{width}}  {r.reason}" for r in self.results)])
