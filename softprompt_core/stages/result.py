"""``LifecycleResult``: how one lifecycle ended, for the terminal, ``--json``, Prefect and CI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from softprompt_core.errors import Outcome


@dataclass(frozen=True)
class LifecycleResult:
    """One lifecycle. ``scores``: candidate, champion, hard_prompt, majority → headline ``metric`` on the test rows."""

    task: str
    outcome: Outcome
    reason: str
    version: int | None = None
    run_id: str | None = None
    run_url: str | None = None
    prefect_url: str | None = None
    metric: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    size_bytes: int | None = None
    seconds: float = 0.0
    gates: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "outcome": self.outcome.value, "exit_code": self.outcome.exit_code, "gates": list(self.gates)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LifecycleResult:
        known = {k: v for k, v in value.items() if k != "exit_code"}
        return cls(**{**known, "outcome": Outcome(value["outcome"]), "gates": tuple(value["gates"])})


def exit_code(results: Sequence[LifecycleResult], *, strict: bool = False) -> int:
    """Exit code of one or several lifecycles: the largest of their codes. ``strict`` makes ``unchanged`` exit 10."""
    codes = [10 if strict and r.outcome is Outcome.UNCHANGED else r.outcome.exit_code for r in results]
    return max(codes, default=0)
