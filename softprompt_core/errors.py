"""The few errors a user can meet, and the outcome of a lifecycle that each leads to.

An error message answers three questions: what is wrong, where, and what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import StrEnum
from typing import Self

from softprompt_core.masking import masked

_MAX_LINE, _MAX_LINES, _MAX_QUOTED = 1000, 60, 300


class _Ending(StrEnum):
    """What users see, and what a CI job sees."""

    exit_code: int

    def __new__(cls, value: str, exit_code: int = 0) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.exit_code = exit_code
        return member


class Outcome(_Ending):
    """How a lifecycle ended."""

    PROMOTED = "promoted", 0
    UNCHANGED = "unchanged", 0
    REJECTED = "rejected", 20
    AWAITING_APPROVAL = "awaiting_approval", 30
    INVALID = "invalid", 40
    DIVERGED = "diverged", 41
    UNAVAILABLE = "unavailable", 50

    @property
    def state_name(self) -> str:
        """The name of the Prefect state: ``Promoted``, ``Awaiting approval``, …"""
        return self.value.replace("_", " ").capitalize()


class NoOutcome(_Ending):
    """Why a command that follows a lifecycle elsewhere has no outcome to tell."""

    TRIGGERED = "triggered", 0
    CANCELLED = "cancelled", 60
    TIMED_OUT = "timed_out", 124
    """124 is what ``timeout(1)`` exits with."""
    INTERRUPTED = "interrupted", 130
    """Of SIGINT; the command exits with 143 after SIGTERM and 129 after SIGHUP."""


class Health(_Ending):
    """What monitoring says about a champion. No outcome of a lifecycle: nothing is trained, promoted or taken back.

    The codes lie in the tens of the outcome that a CI job would treat alike: 20 ``rejected``, 30 ``awaiting_approval``.
    """

    HEALTHY = "healthy", 0
    DEGRADED = "degraded", 21
    UNKNOWN = "unknown", 31


class Validity(_Ending):
    """Whether a champion still holds on another base model."""

    HOLDS = "holds", 0
    FAILS = "fails", 21
    CANNOT = "cannot", 31


class SoftpromptError(Exception):
    """A mistake or a failure that a user can act on; shown without a traceback.

    Args:
        what: what is wrong, in one sentence.
        where: file, line, field, row or address; put before the sentence.
        do: what to do about it.
    """

    outcome: Outcome = Outcome.INVALID

    def __init__(self, what: str, *, where: str | None = None, do: str | None = None) -> None:
        what, where, do = _readable(masked(what)), where and _readable(masked(where)), do and _readable(masked(do))
        self.what, self.where, self.do = what, where, do
        message = f"{where}: {what}" if where else what
        super().__init__(f"{message}\n  → {do}" if do else message)

    def __reduce__(self) -> tuple[object, ...]:
        # Prefect and process pools pickle exceptions; keyword-only arguments need help.
        return (_rebuild, (type(self), self.what, self.where, self.do))


def first_line(error: BaseException) -> str:
    """The first line of an error's message without passwords, short enough to be quoted; without a message its kind."""
    return quotable(next(iter(masked(str(error)).strip().splitlines()), type(error).__name__))


def quotable(line: str) -> str:
    """A line of somebody else's message, short enough to stand within one of ours."""
    return line if len(line) <= _MAX_QUOTED else f"{line[: _MAX_QUOTED - 1]}…"


def closest(name: str, known: Iterable[str], *, likeness: float = 0.5) -> str | None:
    """Which of the known names a user may have meant.

    Args:
        likeness: how like it must be, from 0 to 1 (``difflib``'s ratio).
    """
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=likeness)), None)


def _readable(message: str) -> str:
    """A message that a person can read, whatever a user's file has put into it: long lines and long lists are cut."""
    lines = message.split("\n")
    if len(lines) > _MAX_LINES:
        lines = [*lines[:_MAX_LINES], f"… and {len(lines) - _MAX_LINES:,} more lines"]
    return "\n".join(line if len(line) <= _MAX_LINE else f"{line[:_MAX_LINE]} … ({len(line):,} characters)" for line in lines)


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
