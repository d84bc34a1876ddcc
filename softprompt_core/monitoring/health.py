"""``conclude``: from single findings to one word about a champion. Pure, total, and in doubt ``unknown``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from softprompt_core.errors import Health

_MOST_BAD = 0.1


@dataclass(frozen=True)
class Finding:
    """What one test found.

    Attributes:
        what: what was looked at: ``accuracy``, ``input length``, …
        status: ``ok``; ``worse`` or ``shifted``, surely and by enough to matter; ``unknown``: it could not be tested.
        numbers: what the test computed, by name.
    """

    what: str
    status: Literal["ok", "worse", "shifted", "unknown"]
    reason: str
    numbers: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "numbers": dict(self.numbers)}


@dataclass(frozen=True)
class Verdict:
    """One word, why, and what it rests on."""

    health: Health
    reason: str
    findings: tuple[Finding, ...]


def conclude(quality: Finding | None, shifts: Sequence[Finding], *, rows: int, bad: int, min_rows: int) -> Verdict:
    """The verdict.

    What the champion answers to labelled rows decides. Shifted inputs alone do not say that answers are wrong: without labels
    they make the verdict ``unknown``; beside good answers they are a remark.

    Args:
        quality: the test of the headline metric; None where the rows have no labels.
        shifts: the tests of inputs, labels and answers.
        rows: usable fresh rows. ``bad``: rows that were set aside.
        min_rows: fewer usable rows decide nothing.
    """
    findings = (*([quality] if quality else []), *shifts)
    shifted = [finding for finding in shifts if finding.status == "shifted"]
    remark = f" Remark: {'; '.join(f.reason for f in shifted)}." if shifted else ""
    if rows < min_rows:
        return Verdict(Health.UNKNOWN, f"Only {rows} usable fresh rows, {min_rows} needed.", findings)
    if quality is not None and quality.status == "worse":
        return Verdict(Health.DEGRADED, f"{_sentence(quality.reason)}{remark}", findings)
    if bad > _MOST_BAD * (rows + bad):
        said = f"{bad} of {rows + bad} fresh rows could not be used (empty fields, or labels that the task does not know)."
        return Verdict(Health.UNKNOWN, said + remark, findings)
    if quality is not None and quality.status == "ok":
        return Verdict(Health.HEALTHY, f"{_sentence(quality.reason)}{remark}", findings)
    if quality is not None:
        return Verdict(Health.UNKNOWN, f"{_sentence(quality.reason)}{remark}", findings)
    if shifted:
        said = "; ".join(f.reason for f in shifted)
        return Verdict(
            Health.UNKNOWN, f"{_sentence(said)} Without labels nobody knows whether the answers are still right.", findings
        )
    if not any(finding.status == "ok" for finding in shifts):
        return Verdict(
            Health.UNKNOWN, "The rows have no labels, and nothing is known of the training to compare them with.", findings
        )
    return Verdict(Health.HEALTHY, "The rows have no labels; their inputs look like those of the training.", findings)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
