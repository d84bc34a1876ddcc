"""Bring the ledger and the aliases together: close what dead processes left open, and record what was moved by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from softprompt_core.store.connection import Store
from softprompt_core.store.ledger.entries import MOVES, NO_EVIDENCE, Action, Entry, EvidenceRef, new_key, read, write
from softprompt_core.store.ledger.lock import DecisionLock, decision_lock
from softprompt_core.store.ledger.moves import (
    exists,
    finish_move,
    mark_completed,
    mark_superseded,
    mark_withdrawn,
    move_challenger,
    version_text,
)
from softprompt_core.store.ledger.standing import disagrees, write_standing
from softprompt_core.store.reading import StoredModel
from softprompt_core.store.tags import CHAMPION
from softprompt_core.store.versions import Version, list_versions


@dataclass(frozen=True)
class TaskState:
    """Ledger of a task, oldest entry first, and where its aliases point."""

    entries: tuple[Entry, ...]
    aliases: Mapping[str, int]

    @property
    def champion(self) -> int | None:
        return self.aliases.get(CHAMPION)

    @property
    def ledger_champion(self) -> int | None:
        """The champion by the ledger alone."""
        move = self.last_move
        return move.candidate if move is not None else None

    @property
    def moved_by_hand(self) -> str | None:
        """In words, if the alias ``champion`` is not where the ledger, or an entry that is just being carried out, put it."""
        if self.champion in (self.ledger_champion, *(e.candidate for e in self.open)):
            return None
        champion, in_ledger = version_text(self.champion), version_text(self.ledger_champion)
        return f"champion was moved by hand: it is {champion}, the ledger has {in_ledger}"

    @property
    def last_move(self) -> Entry | None:
        """The entry that made the ledger's champion."""
        return next((e for e in reversed(self.entries) if e.action in MOVES and e.status == "completed"), None)

    def new_entry(
        self, action: Action, by: str, reason: str, candidate: int | None, evidence: EvidenceRef = NO_EVIDENCE, **more: Any
    ) -> Entry:
        """An entry behind the last one, with status ``intent``; not written yet."""
        return Entry(
            **{"key": new_key(self.entries), "status": "intent", "previous_champion": self.champion, **more},
            action=action,
            by=by,
            reason=reason,
            candidate=candidate,
            evidence=evidence,
        )

    @property
    def open(self) -> tuple[Entry, ...]:
        """Entries that a process works on, or died over."""
        return tuple(entry for entry in self.entries if entry.status == "intent")


def task_state(store: Store, name: str) -> TaskState:
    """Ledger and aliases from one answer of MLflow; empty when the task has no model yet.

    Raises:
        InvalidInput: as ``history``.
    """
    return state_in(store.reader.model(name))


def state_in(model: StoredModel | None) -> TaskState:
    """``task_state`` of a model that was read before."""
    return TaskState((), {}) if model is None else TaskState(tuple(read(model.name, model.tags)), model.aliases)


def repair(store: Store, name: str) -> list[Entry]:
    """Reconcile one task; returns the entries that were written. Waits for a process that is deciding just now."""
    before = task_state(store, name)
    if not before.open and before.moved_by_hand is None:
        return []
    with decision_lock(store, name) as lock:
        after = reconciled(lock)
    statuses = {entry.key: entry.status for entry in before.entries}
    return [entry for entry in after.entries if statuses.get(entry.key) != entry.status]


def refresh_descriptions(store: Store, name: str) -> list[Version]:
    """Rewrite the descriptions of a task that do not say how their version stands; returns those versions."""
    with decision_lock(store, name):
        entries = task_state(store, name).entries
        stale = [version for version in list_versions(store, name) if disagrees(version, entries)]
        for version in stale:
            write_standing(store, name, version.version, entries)
    return stale


def reconciled(lock: DecisionLock) -> TaskState:
    """The task with no entry left open and no champion that the ledger does not have.

    The holder of the lock is alone, so every open entry is of a process that is dead or has lost the lock.
    """
    store, name = lock.store, lock.task
    state = task_state(store, name)
    for entry in state.open:
        _close(lock, entry, state)
    if state.open:
        state = task_state(store, name)
    if state.moved_by_hand is None:
        return state
    lock.heartbeat("entry moved by hand")
    reason = f"{state.moved_by_hand}; nobody said why"
    entry = state.new_entry("moved by hand", "unknown", reason, state.champion, previous_champion=state.ledger_champion)
    write(store, name, entry.with_status("completed"))
    after = task_state(store, name)
    for number in (state.champion, state.ledger_champion):
        if number is not None and exists(store, name, number):
            write_standing(store, name, number, after.entries)
    return after


def _close(lock: DecisionLock, entry: Entry, state: TaskState) -> None:
    candidate_exists = entry.candidate is not None and exists(lock.store, lock.task, entry.candidate)
    if entry.action == "prune":
        deleted = tuple(version for version in entry.deleted if not exists(lock.store, lock.task, version))
        if deleted:
            mark_completed(lock, entry.with_status("intent", deleted=deleted))
            return
    elif entry.action == "withdraw":
        if candidate_exists:
            mark_withdrawn(lock, entry, state.entries)
            return
    elif entry.action in ("reject", "await"):
        if candidate_exists and entry.candidate != state.champion:
            move_challenger(lock, entry, state.entries)
            return
    elif candidate_exists and entry.candidate == state.champion:
        finish_move(lock, entry, state.entries)
        return
    mark_superseded(lock, entry, "it broke off before anything was moved")
