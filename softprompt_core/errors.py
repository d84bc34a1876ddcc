"""The few errors a user can meet, and the outcome of a lifecycle that each leads to.

An error message answers three questions: what is wrong, where, and what to do about it.
"""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """How a lifecycle ended. The value is what users see; ``exit_code`` is what a CI job sees."""

    PROMOTED = "promoted"
    UNCHANGED = "unchanged"
    REJECTED = "rejected"
    AWAITING_APPROVAL = "awaiting_approval"
    INVALID = "invalid"
    DIVERGED = "diverged"
    UNAVAILABLE = "unavailable"

    @property
    def exit_code(self) -> int:
        return _EXIT_CODES[self]

    @property
    def state_name(self) -> str:
        """The name of the Prefect state: ``Promoted``, ``Awaiting approval``, …"""
        return self.value.replace("_", " ").capitalize()


class NoOutcome(StrEnum):
    """Why a command that looks at a lifecycle elsewhere has no outcome to tell."""

    TRIGGERED = "triggered"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"

    @property
    def exit_code(self) -> int:
        """124 is what ``timeout(1)`` exits with."""
        return {"triggered": 0, "cancelled": 60, "timed_out": 124}[self.value]


class Health(StrEnum):
    """What monitoring found out about a champion. No outcome of a lifecycle: nothing is trained, promoted or taken back."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNKNOWN = "unknown"

    @property
    def exit_code(self) -> int:
        """In the tens of the outcome that a CI job would treat alike: 20 ``rejected``, 30 ``awaiting_approval``."""
        return {"healthy": 0, "degraded": 21, "unknown": 31}[self.value]


class Validity(StrEnum):
    """Whether a champion still holds on another base model."""

    HOLDS = "holds"
    FAILS = "fails"
    CANNOT = "cannot"

    @property
    def exit_code(self) -> int:
        return {"holds": 0, "fails": 21, "cannot": 31}[self.value]


_EXIT_CODES = {
    Outcome.PROMOTED: 0,
    Outcome.UNCHANGED: 0,
    Outcome.REJECTED: 20,
    Outcome.AWAITING_APPROVAL: 30,
    Outcome.INVALID: 40,
    Outcome.DIVERGED: 41,
    Outcome.UNAVAILABLE: 50,
}


class SoftpromptError(Exception):
    """A mistake or a failure that a user can act on; shown without a traceback.

    Args:
        what: what is wrong, in one sentence.
        where: file, line, field, row or address; put before the sentence.
        do: what to do about it.
    """

    outcome: Outcome = Outcome.INVALID

    def __init__(self, what: str, *, where: str | None = None, do: str | None = None) -> None:
        self.what, self.where, self.do = what, where, do
        message = f"{where}: {what}" if where else what
        super().__init__(f"{message}\n  → {do}" if do else message)

    def __reduce__(self) -> tuple[object, ...]:
        # Prefect and process pools pickle exceptions; keyword-only arguments need help.
        return (_rebuild, (type(self), self.what, self.where, self.do))


def _rebuild(kind: type[SoftpromptError], what: str, where: str | None, do: str | None) -> SoftpromptError:
    return kind(what, where=where, do=do)


class InvalidInput(SoftpromptError):
    """The spec, the data or a file that a user named is wrong; nothing was trained or changed."""

    outcome = Outcome.INVALID


class Diverged(SoftpromptError):
    """Training produced no finite prompt."""

    outcome = Outcome.DIVERGED


class Unavailable(SoftpromptError):
    """MLflow, Prefect or the base model cannot be reached."""

    outcome = Outcome.UNAVAILABLE
