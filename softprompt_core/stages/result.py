"""``LifecycleResult``: how one lifecycle ended, for the terminal, ``--json``, Prefect and CI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from softprompt_core.errors import NoOutcome, Outcome


@dataclass(frozen=True)
class LifecycleResult:
    """One lifecycle.

    Attributes:
        outcome: of a lifecycle that was followed from elsewhere it may not be known.
        scores: candidate, champion, hard_prompt, majority → headline ``metric`` on the test rows.
        dry_run: nothing was registered, and the outcome is what it would have been.
    """

    task: str
    outcome: Outcome | NoOutcome
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
    dry_run: bool = False

    @property
    def words(self) -> str:
        """The outcome in the words of a command's last line."""
        return f"dry run: {self.outcome.value}" if self.dry_run else self.outcome.value

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "outcome": self.outcome.value, "exit_code": self.outcome.exit_code, "gates": list(self.gates)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LifecycleResult:
        known = {k: v for k, v in value.items() if k != "exit_code"}
        kind = NoOutcome if value["outcome"] in set(NoOutcome) else Outcome
        return cls(**{**known, "outcome": kind(value["outcome"]), "gates": tuple(value["gates"])})


def exit_code(results: Sequence[LifecycleResult], *, strict: bool = False) -> int:
    """Exit code of one or several lifecycles: the largest of their codes. ``strict`` makes ``unchanged`` exit 10."""
    codes = [10 if strict and r.outcome is Outcome.UNCHANGED else r.outcome.exit_code for r in results]
    return max(codes, default=0)
