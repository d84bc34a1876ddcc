"""Versions that passed their gates and wait for a person."""

from __future__ import annotations

from dataclasses import dataclass

from softprompt_core.errors import InvalidInput, Outcome
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger.entries import Entry
from softprompt_core.store.ledger.reconcile import TaskState, task_state
from softprompt_core.store.tags import OUTCOME
from softprompt_core.store.versions import Version, get, list_versions


@dataclass(frozen=True)
class Pending:
    """A version that waits. ``compared_with``: the champion that its gates saw; ``champion``: the present one."""

    version: Version
    reason: str
    compared_with: int | None
    champion: int | None

    @property
    def stale(self) -> bool:
        """Whether the gates must run again before it can be promoted."""
        return self.compared_with != self.champion


def pending(store: Store, name: str | None = None) -> list[Pending]:
    """Versions of one task or of all that wait for approval, expired ones included, longest waiting first."""
    waiting = [version for version in list_versions(store, name) if version.awaits_approval]
    states = {task: task_state(store, task) for task in {version.name for version in waiting}}
    return sorted((_pending(v, states[v.name]) for v in waiting), key=lambda p: p.version.decided_at)


def awaiting(store: Store, name: str, version: int) -> Pending:
    """One version that waits for approval and may still be approved.

    Raises:
        InvalidInput: there is no such version, it does not wait, or it has waited too long.
    """
    stored, where = get(store, name, version), f"{name} version {version}"
    if not stored.awaits_approval:
        outcome = stored.tags.get(OUTCOME, "undecided").replace("_", " ")
        raise InvalidInput(
            f"does not wait for approval, it is {outcome}", where=where, do="`softprompt registry pending` lists what waits"
        )
    if stored.approval_expired():
        raise InvalidInput(
            f"its approval expired on {stored.approval_expires:%Y-%m-%d %H:%M} UTC", where=where, do="run the task again"
        )
    return _pending(stored, task_state(store, name))


def decision_about(entries: tuple[Entry, ...], version: int) -> Entry | None:
    """The last entry in which a version was promoted, turned down or told to wait."""
    actions = ("promote", "approve", "reject", "await")
    return next(
        (e for e in reversed(entries) if e.candidate == version and e.action in actions and e.status == "completed"), None
    )


def _pending(version: Version, state: TaskState) -> Pending:
    entry = decision_about(state.entries, version.version)
    if entry is None:  # the tag was set by hand: whoever was champion was not compared with it
        return Pending(version, Outcome.AWAITING_APPROVAL.value, -1, state.champion)
    return Pending(version, entry.reason, entry.previous_champion, state.champion)
