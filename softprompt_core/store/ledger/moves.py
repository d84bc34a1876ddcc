"""How a ledger entry moves aliases and tags, step by step. A process may die before any step; ``reconcile`` goes on from there.

For the champion: 1. entry ``intent`` (by the caller)  2. alias ``champion``  3. alias ``previous``  4. read back
5. alias ``challenger``  6. version tags and descriptions  7. entry ``completed``. As long as step 2 has not been done nothing has
been moved, and all that follows can be repeated, so a decision that broke off is either superseded or completed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from softprompt_core.errors import InvalidInput, Outcome, SoftpromptError
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger.entries import Entry, champion_before, write
from softprompt_core.store.ledger.lock import DecisionLock
from softprompt_core.store.ledger.standing import write_standing
from softprompt_core.store.tags import (
    CHALLENGER,
    CHAMPION,
    DECIDED_AT,
    OUTCOME,
    OUTCOME_WITHDRAWN,
    PREVIOUS,
    WITHDRAWN,
    shortened,
)
from softprompt_core.store.versions import aliases, get

_REASON_LIMIT = 500


class ChampionMoved(SoftpromptError):
    """The champion is not the one that the gates compared with; nothing was moved. Compare again with the new one."""

    outcome = Outcome.REJECTED


def move_champion(lock: DecisionLock, entry: Entry, entries: Sequence[Entry]) -> None:
    """Make the entry's candidate champion, and do all that follows. ``entries``: the ledger before it.

    Raises:
        ChampionMoved: somebody moved the alias by hand in the same moment; the entry is ``superseded``.
    """
    lock.heartbeat("alias champion")
    lock.store.client.set_registered_model_alias(lock.task, CHAMPION, str(entry.candidate))
    finish_move(lock, entry, entries)


def finish_move(lock: DecisionLock, entry: Entry, entries: Sequence[Entry]) -> None:
    """The steps after the alias ``champion`` points at the candidate. Safe to repeat. Raises ChampionMoved as above."""
    store, name, new = lock.store, lock.task, entry.candidate
    assert new is not None
    is_rollback = entry.action == "rollback"
    _point_previous(lock, champion_before(entries, new) if is_rollback else entry.previous_champion)
    current = aliases(store, name)
    if current.get(CHAMPION) != new:
        raise champion_moved(lock, entry, current.get(CHAMPION), new)
    if current.get(CHALLENGER) == new:
        lock.heartbeat("alias challenger")
        store.client.delete_registered_model_alias(name, CHALLENGER)
    lock.heartbeat("version tags")
    if is_rollback:
        _withdraw(store, name, entry)
    _set_outcome(store, name, new, Outcome.PROMOTED)
    _describe(lock, entry, entries, new, entry.previous_champion)
    mark_completed(lock, entry)


def move_challenger(lock: DecisionLock, entry: Entry, entries: Sequence[Entry]) -> None:
    """Point ``challenger`` at a candidate that was rejected or waits. Safe to repeat. ``entries``: the ledger before it."""
    assert entry.candidate is not None
    lock.heartbeat("alias challenger")
    lock.store.client.set_registered_model_alias(lock.task, CHALLENGER, str(entry.candidate))
    lock.heartbeat("version tags")
    outcome = Outcome.REJECTED if entry.action == "reject" else Outcome.AWAITING_APPROVAL
    _set_outcome(lock.store, lock.task, entry.candidate, outcome)
    _describe(lock, entry, entries, entry.candidate)
    mark_completed(lock, entry)


def mark_withdrawn(lock: DecisionLock, entry: Entry, entries: Sequence[Entry]) -> None:
    """Give the entry's candidate the outcome of a version that nobody will decide about. Safe to repeat."""
    assert entry.candidate is not None
    lock.heartbeat("version tags")
    _set_outcome(lock.store, lock.task, entry.candidate, OUTCOME_WITHDRAWN)
    _describe(lock, entry, entries, entry.candidate)
    mark_completed(lock, entry)


def mark_completed(lock: DecisionLock, entry: Entry) -> None:
    lock.heartbeat("entry completed")
    write(lock.store, lock.task, entry.with_status("completed"))


def mark_superseded(lock: DecisionLock, entry: Entry, why: str) -> None:
    """Close an entry that moved nothing; ``why`` is put before its reason."""
    lock.heartbeat("entry superseded")
    write(lock.store, lock.task, entry.with_status("superseded", reason=f"{why}. {entry.reason}".rstrip()))


def champion_moved(lock: DecisionLock, entry: Entry, champion: int | None, expected: int | None) -> ChampionMoved:
    """Mark an entry as superseded; returns the error that says why."""
    why = f"the champion is {version_text(champion)}, not {version_text(expected)}"
    mark_superseded(lock, entry, why)
    return ChampionMoved(
        f"{why}; nothing was decided about version {entry.candidate}",
        where=lock.task,
        do="run the task again: the gates then compare with the champion that stands now",
    )


def version_text(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"


def exists(store: Store, name: str, version: int) -> bool:
    """Whether a version is there and finished."""
    try:
        get(store, name, version)
    except InvalidInput:
        return False
    return True


def _point_previous(lock: DecisionLock, version: int | None) -> None:
    lock.heartbeat("alias previous")
    if version is not None and exists(lock.store, lock.task, version):
        lock.store.client.set_registered_model_alias(lock.task, PREVIOUS, str(version))
    else:
        lock.store.client.delete_registered_model_alias(lock.task, PREVIOUS)


def _withdraw(store: Store, name: str, entry: Entry) -> None:
    withdrawn = entry.previous_champion
    if withdrawn is not None and exists(store, name, withdrawn):
        text = f"rolled back on {entry.at:%Y-%m-%d %H:%M} UTC by {entry.by}: {shortened(entry.reason, _REASON_LIMIT)}"
        store.client.set_model_version_tag(name, str(withdrawn), WITHDRAWN, text)


def _describe(lock: DecisionLock, entry: Entry, entries: Sequence[Entry], *numbers: int | None) -> None:
    """Let the descriptions of versions say how they stand once the entry is completed."""
    ledger = (*(each for each in entries if each.key != entry.key), entry.with_status("completed"))
    for number in numbers:
        if number is not None and exists(lock.store, lock.task, number):
            write_standing(lock.store, lock.task, number, ledger)


def _set_outcome(store: Store, name: str, version: int, outcome: str) -> None:
    tags = get(store, name, version).tags
    if outcome == Outcome.PROMOTED and WITHDRAWN in tags:
        store.client.delete_model_version_tag(name, str(version), WITHDRAWN)
    store.client.set_model_version_tag(name, str(version), DECIDED_AT, datetime.now(UTC).isoformat(timespec="seconds"))
    store.client.set_model_version_tag(name, str(version), OUTCOME, str(outcome))
