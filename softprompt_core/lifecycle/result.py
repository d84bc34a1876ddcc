"""``LifecycleResult``: how one lifecycle ended, for the terminal, ``--json``, Prefect and CI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, computed_field, field_validator

from softprompt_core.errors import NoOutcome, Outcome
from softprompt_core.masking import masked


class LifecycleResult(BaseModel):
    """One lifecycle.

    Attributes:
        outcome: of a lifecycle that was followed from elsewhere it may not be known.
        stands_for: of ``unchanged``, what was decided about the version that stands: promoted, rejected or awaiting approval.
        metric: the headline metric of ``scores``.
        scores: candidate, champion, hard_prompt, majority → headline metric on the test rows.
        gates: the gates' report, a line each.
        dry_run: nothing was registered, and the outcome is what it would have been.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    task: str
    outcome: Outcome | NoOutcome
    reason: str
    version: int | None = None
    run_id: str | None = None
    run_url: str | None = None
    prefect_url: str | None = None
    metric: str | None = None
    scores: Mapping[str, float] = {}
    size_bytes: int | None = None
    seconds: float = 0.0
    gates: tuple[str, ...] = ()
    dry_run: bool = False
    stands_for: Outcome | None = None

    @field_validator("reason", "run_url", "prefect_url", mode="after")
    @classmethod
    def _without_passwords(cls, text: str | None) -> str | None:
        return text and masked(text)  # the text of an error that nobody foresaw may hold anything

    @computed_field  # type: ignore[prop-decorator]
    @property
    def exit_code(self) -> int:
        return self.verdict.exit_code

    @property
    def verdict(self) -> Outcome | NoOutcome:
        """What CI is to make of it: the outcome, or for ``unchanged`` that of the version that stands."""
        return self.stands_for or self.outcome

    @property
    def ending(self) -> str:
        """``promoted``, ``unchanged``, or, where the version that stands was not promoted, ``unchanged (rejected)``."""
        stands = self.stands_for not in (None, Outcome.PROMOTED)
        return f"{self.outcome.value} ({self.verdict.value})" if stands else self.outcome.value

    @property
    def label(self) -> str:
        """The outcome as a command's last line says it."""
        return f"dry run: {self.ending}" if self.dry_run else self.ending

    @property
    def to_approve(self) -> str | None:
        """The command with which a person approves the version, if it waits for that."""
        if self.verdict is not Outcome.AWAITING_APPROVAL or self.version is None or self.dry_run:
            return None
        return f"softprompt registry approve {self.task} {self.version} --by WHO --reason WHY"


def exit_code(results: Sequence[LifecycleResult], *, strict: bool = False) -> int:
    """Exit code of one or several lifecycles: the largest of their codes. ``strict`` makes an ``unchanged`` of 0 exit 10."""
    codes = [
        10 if strict and result.outcome is Outcome.UNCHANGED and not result.exit_code else result.exit_code for result in results
    ]
    return max(codes, default=0)
