"""Bring the ledger and the aliases together: complete or void what dead processes left, and write down what was moved by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from softprompt_core.registry.ledger import NO_EVIDENCE, Entry, last_move, new_key, read, write
from softprompt_core.registry.moves import complete, exists, finish_move, move_challenger, void
from softprompt_core.registry.stores import Stores
from softprompt_core.registry.tags import CHAMPION
from softprompt_core.registry.turns import Turn, turn
from softprompt_core.registry.versions import registered_model

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Standing:
    """A task as it stands: its ledger, oldest first, and where its aliases point."""

    entries: tuple[Entry, ...]
    aliases: Mapping[str, int]

    @property
    def champion(self) -> int | None:
        return self.aliases.get(CHAMPION)

    @property
    def moved_by_hand(self) -> str | None:
        """In words, if the alias ``champion`` is not where the ledger, or an entry that is just being carried out, put it."""
        known = _known_champion(self.entries)
        if self.champion in (known, *(e.candidate for e in self.open)):
            return None
        return f"champion was moved by hand: it is {_named(self.champion)}, the ledger has {_named(known)}"

    @property
    def last_move(self) -> Entry | None:
        """The entry that made the champion which the ledger knows."""
        return last_move(self.entries)

    @property
    def open(self) -> tuple[Entry, ...]:
        """Entries that somebody is at work on, or died over."""
        return tuple(entry for entry in self.entries if entry.status == "intent")


def standing(client: MlflowClient, name: str) -> Standing:
    """Ledger and aliases from one answer of MLflow; empty when the task has no model yet.

    Raises:
        InvalidInput: as ``history``.
    """
    model = registered_model(client, name)
    if model is None:
        return Standing((), {})
    return Standing(tuple(read(name, model.tags)), {alias: int(version) for alias, version in model.aliases.items()})


def repair(client: MlflowClient, stores: Stores, name: str) -> list[Entry]:
    """Settle one task; returns the entries that were written. Waits for whoever is deciding just now."""
    before = standing(client, name)
    if not before.open and before.moved_by_hand is None:
        return []
    with turn(client, stores, name) as held:
        after = settled(client, held, name)
    known = {entry.key: entry.status for entry in before.entries}
    return [entry for entry in after.entries if known.get(entry.key) != entry.status]


def settled(client: MlflowClient, held: Turn, name: str) -> Standing:
    """The task with no entry left open and no champion that the ledger does not know. Whoever holds the turn is alone, so every
    open entry is of a process that is dead or has lost its turn."""
    found = standing(client, name)
    for entry in found.open:
        _close(client, held, name, entry, found)
    if found.open:
        found = standing(client, name)
    if found.moved_by_hand is not None:
        known = _known_champion(found.entries)
        held.confirm("entry moved by hand")
        reason = f"{found.moved_by_hand}; nobody said why"
        key = new_key(found.entries)
        write(client, name, Entry(key, "moved by hand", "completed", "unknown", reason, found.champion, known, NO_EVIDENCE))
        found = standing(client, name)
    return found


def _close(client: MlflowClient, held: Turn, name: str, entry: Entry, found: Standing) -> None:
    there = entry.candidate is not None and exists(client, name, entry.candidate)
    if entry.action == "prune":
        gone = tuple(version for version in entry.deleted if not exists(client, name, version))
        if gone:
            complete(client, held, name, replace(entry, deleted=gone))
            return
    elif entry.action in ("reject", "await"):
        if there and entry.candidate != found.champion:
            move_challenger(client, held, name, entry)
            return
    elif there and entry.candidate == found.champion:
        finish_move(client, held, name, entry, found.entries)
        return
    void(client, held, name, entry, "it broke off before anything was moved")


def _known_champion(entries: tuple[Entry, ...]) -> int | None:
    last = last_move(entries)
    return last.candidate if last is not None else None


def _named(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"
