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

    @field_validator("reason", "run_url", "prefect_url", mode="after")
    @classmethod
    def _without_passwords(cls, text: str | None) -> str | None:
        return text and masked(text)  # the text of an error that nobody foresaw may hold anything

    @computed_field  # type: ignore[prop-decorator]
    @property
    def exit_code(self) -> int:
        return self.outcome.exit_code

    @property
    def label(self) -> str:
        """The outcome as a command's last line says it."""
        return f"dry run: {self.outcome.value}" if self.dry_run else self.outcome.value


def exit_code(results: Sequence[LifecycleResult], *, strict: bool = False) -> int:
    """Exit code of one or several lifecycles: the largest of their codes. ``strict`` makes ``unchanged`` exit 10."""
    codes = [10 if strict and result.outcome is Outcome.UNCHANGED else result.exit_code for result in results]
    return max(codes, default=0)
