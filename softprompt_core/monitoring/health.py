"""``conclude``: from single checks to one word about a champion. Pure, total, and in doubt ``unknown``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from softprompt_core.errors import Health

_MOST_BAD = 0.1  # share of the rows that may be unusable


class HealthCheck(BaseModel):
    """The result of one test of a champion or of new rows."""

    model_config = ConfigDict(frozen=True)

    what: str
    """What was looked at: ``accuracy``, ``input length``, …"""
    status: Literal["ok", "worse", "shifted", "unknown"]
    """``worse`` or ``shifted``: surely and by enough to matter; ``unknown``: it could not be tested."""
    reason: str
    numbers: Mapping[str, float] = {}
    """What the test computed, by name."""


@dataclass(frozen=True)
class Verdict:
    """One word, why, and what it rests on."""

    health: Health
    reason: str
    checks: tuple[HealthCheck, ...]


def conclude(quality: HealthCheck | None, drift: Sequence[HealthCheck], *, rows: int, bad: int, min_rows: int) -> Verdict:
    """The verdict.

    What the champion answers to labelled rows decides. Drifted inputs alone do not say that answers are wrong: without labels
    they make the verdict ``unknown``; beside good answers they are a remark.

    Args:
        quality: the test of the headline metric; None where the rows have no labels.
        drift: the tests of inputs, labels and answers.
        rows: usable new rows. ``bad``: rows that were set aside.
        min_rows: fewer usable rows decide nothing.
    """
    health, reason = _health(quality, drift, rows, bad, min_rows)
    return Verdict(health, reason, (*([quality] if quality else []), *drift))


def _health(quality: HealthCheck | None, drift: Sequence[HealthCheck], rows: int, bad: int, min_rows: int) -> tuple[Health, str]:
    drifted = "; ".join(check.reason for check in drift if check.status == "shifted")
    remark = f" Remark: {drifted}." if drifted else ""
    if rows < min_rows:
        return Health.UNKNOWN, f"Only {rows} usable fresh rows, {min_rows} needed."
    if quality is not None and quality.status == "worse":
        return Health.DEGRADED, _sentence(quality.reason) + remark
    if bad > _MOST_BAD * (rows + bad):
        reason = f"{bad} of {rows + bad} fresh rows could not be used (empty fields, or labels that the task does not know)."
        return Health.UNKNOWN, reason + remark
    if quality is not None:
        return Health.HEALTHY if quality.status == "ok" else Health.UNKNOWN, _sentence(quality.reason) + remark
    if drifted:
        return Health.UNKNOWN, f"{_sentence(drifted)} Without labels nobody knows whether the answers are still right."
    if not any(check.status == "ok" for check in drift):
        return Health.UNKNOWN, "The rows have no labels, and nothing is known of the training to compare them with."
    return Health.HEALTHY, "The rows have no labels; their inputs look like those of the training."


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
