"""Versions without files, and decisions about them: all that the ledger needs."""

from __future__ import annotations

from collections.abc import Sequence

from softprompt_core.errors import Outcome
from softprompt_core.store import tags
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger.entries import Entry, EvidenceRef
from softprompt_core.store.ledger.recording import NewDecision, record_decision

EVIDENCE = EvidenceRef("0" * 32, "f" * 64)


def make_versions(store: Store, name: str, count: int) -> None:
    """A registered model with versions 1 to ``count``."""
    store.client.create_registered_model(name)
    add_versions(store, name, count)


def add_versions(store: Store, name: str, count: int, **more: str) -> None:
    for _ in range(count):
        version_tags = {tags.STATUS: tags.REGISTERED, tags.BASE_FINGERPRINT: "a" * 64, **more}
        store.client.create_model_version(name, "s3://nowhere/model", tags=version_tags)


def decide(
    store: Store, name: str, version: int, expected: int | None = None, outcome: Outcome | str = Outcome.PROMOTED, **more
) -> Outcome:
    """Record a decision of ann's, where ``expected`` is the champion that was compared with."""
    fields = {"by": "ann", "reason": "gates passed", "evidence": EVIDENCE, **more}
    return record_decision(store, NewDecision(name, version, expected, Outcome(outcome), **fields))


def summary(entries: Sequence[Entry]) -> list[tuple]:
    return [(e.action, e.status, e.candidate, e.previous_champion) for e in entries]
