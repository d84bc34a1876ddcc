"""Versions that passed their gates and wait for a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from softprompt_core.errors import InvalidInput, Outcome
from softprompt_core.registry.ledger import Entry
from softprompt_core.registry.recovery import Standing, standing
from softprompt_core.registry.tags import OUTCOME
from softprompt_core.registry.versions import Version, get, list_versions

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Pending:
    """A version that waits. ``compared_with``: the champion that its gates saw; ``champion``: the one that stands now."""

    version: Version
    reason: str
    compared_with: int | None
    champion: int | None

    @property
    def stale(self) -> bool:
        """Whether the gates must run again before it can be promoted."""
        return self.compared_with != self.champion


def pending(client: MlflowClient, name: str | None = None) -> list[Pending]:
    """Versions of one task or of all that wait for approval, expired ones included, longest waiting first."""
    waiting = [version for version in list_versions(client, name) if version.awaits_approval]
    tasks = {task: standing(client, task) for task in {version.name for version in waiting}}
    found = [_pending(version, tasks[version.name]) for version in waiting]
    return sorted(found, key=lambda p: p.version.decided_at)


def awaiting(client: MlflowClient, name: str, version: int) -> Pending:
    """One version that waits for approval and may still be approved.

    Raises:
        InvalidInput: there is no such version, it does not wait, or it has waited too long.
    """
    found, where = get(client, name, version), f"{name} version {version}"
    if not found.awaits_approval:
        outcome = found.tags.get(OUTCOME, "undecided").replace("_", " ")
        raise InvalidInput(
            f"does not wait for approval, it is {outcome}", where=where, do="`softprompt registry pending` lists what waits"
        )
    if found.approval_expired():
        raise InvalidInput(
            f"its approval expired on {found.approval_expires:%Y-%m-%d %H:%M} UTC", where=where, do="run the task again"
        )
    return _pending(found, standing(client, name))


def decision_about(entries: tuple[Entry, ...], version: int) -> Entry | None:
    """The last entry in which a version was promoted, turned down or told to wait."""
    actions = ("promote", "approve", "reject", "await")
    return next(
        (e for e in reversed(entries) if e.candidate == version and e.action in actions and e.status == "completed"), None
    )


def _pending(version: Version, now: Standing) -> Pending:
    entry = decision_about(now.entries, version.version)
    if entry is None:  # the tag was set by hand: whoever was champion was not compared with it
        return Pending(version, Outcome.AWAITING_APPROVAL.value, -1, now.champion)
    return Pending(version, entry.reason, entry.previous_champion, now.champion)
