"""A version's description says how it stands after every move, and keeps everything else that it says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from softprompt_core.store import tags
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger.reconcile import refresh_descriptions, repair, task_state
from softprompt_core.store.ledger.recording import rollback, withdraw
from softprompt_core.store.ledger.standing import described, disagrees, write_standing
from softprompt_core.store.versions import get
from tests.store import ledgers

NUMBERS = " Test accuracy 0.9 (champion 0.85, majority class 0.5)."
BODY = "### Test rows\n\n| Metric | Candidate |\n| --- | ---: |\n| accuracy | 0.9 |\n\n### Lineage\n\n- Data: `0123`"


@pytest.fixture
def said(store: Store, name: str) -> Callable[[int], str]:
    """What a version's description says about how it stands: phrase and sentence. Fails if the rest is not what it was."""
    ledgers.make_versions(store, name, 4)
    for version in range(1, 5):
        text = f"Soft prompt for {name}: registered, not decided yet.{NUMBERS}\n\n**a verdict**\n\n{BODY}\n"
        store.client.update_model_version(name, str(version), text)

    def of(version: int) -> str:
        found = get(store, name, version)
        assert disagrees(found, task_state(store, name).entries) is None
        first, *middle, rest = found.description.split("\n\n", 2)
        assert first.startswith(f"Soft prompt for {name}: ") and first.endswith(NUMBERS) and rest == f"{BODY}\n"
        return first.removeprefix(f"Soft prompt for {name}: ").removesuffix(NUMBERS) + " " + middle[0]

    return of


def test_every_move_is_in_the_words(store: Store, name: str, said: Callable[[int], str]) -> None:
    ledgers.decide(store, name, 1, by="softprompt-lifecycle", reason="All 3 gates passed.")
    assert said(1) == "all gates passed. **All 3 gates passed.**"
    until = datetime.now(UTC) + timedelta(days=3)
    ledgers.decide(store, name, 2, 1, "awaiting_approval", by="softprompt-lifecycle", approval_expires=until)
    assert said(2) == f"gates passed, waits for approval. **gates passed It may be approved until {until:%Y-%m-%d %H:%M} UTC.**"
    ledgers.decide(store, name, 2, 1, reason="read 20 answers,\nall fine", approves=True)
    assert said(2) == "all gates passed, approved. **By ann: read 20 answers, all fine**"
    rollback(store, name=name, by="ben", reason="complaints")
    assert said(2).startswith("rolled back. **rolled back on ") and said(2).endswith("by ben: complaints**")
    assert said(1) == "all gates passed. **All 3 gates passed.**"
    ledgers.decide(store, name, 3, 1, "rejected", reason="too bad")
    assert said(3) == "not promoted. **By ann: too bad**"
    ledgers.decide(store, name, 3, 1, reason="needed", override=True)
    assert said(3) == "promoted although its gates said no. **By ann: needed**"
    assert withdraw(store, get(store, name, 4), by="softprompt-lifecycle", reason="its run broke off")
    assert said(4) == "withdrawn, never decided about. **its run broke off**"
    ledgers.decide(store, name, 2, 3, reason="it was fine", override=True)
    assert said(2) == "promoted although its gates said no. **By ann: it was fine**"


def test_time_and_hands_that_no_move_has_seen_are_found_and_mended(store: Store, name: str, said: Callable[[int], str]) -> None:
    until = datetime.now(UTC) + timedelta(days=3)
    ledgers.decide(store, name, 1, None, "awaiting_approval", approval_expires=until)
    store.client.set_model_version_tag(name, "1", tags.APPROVAL_EXPIRES, "2020-01-01T00:00:00+00:00")
    assert disagrees(get(store, name, 1), task_state(store, name).entries) == "gates passed, waits for approval"
    assert [version.version for version in refresh_descriptions(store, name)] == [1]
    assert said(1).startswith("gates passed, approval expired. **Nobody approved it until 2020-01-01 00:00 UTC.")
    assert refresh_descriptions(store, name) == []
    ledgers.decide(store, name, 2, None, "rejected")
    store.client.set_registered_model_alias(name, tags.CHAMPION, "2")
    repair(store, name)
    assert said(2).startswith("made champion by hand.")


def test_somebodys_own_words_stay_and_are_no_disagreement(store: Store, name: str) -> None:
    ledgers.make_versions(store, name, 1)
    store.client.update_model_version(name, "1", "Our best one.\n\nAsk Ann.")
    assert disagrees(get(store, name, 1), ()) is None
    ledgers.decide(store, name, 1)
    text = get(store, name, 1).description
    assert text == f"Soft prompt for {name}: all gates passed.\n\n**By ann: gates passed**\n\nOur best one.\n\nAsk Ann.\n"
    assert described(get(store, name, 1), task_state(store, name).entries) == text


def test_a_description_stays_within_what_databases_hold(store: Store, name: str) -> None:
    ledgers.make_versions(store, name, 1)
    ledgers.decide(store, name, 1, reason="x" * 5000)
    write_standing(store, name, 1, task_state(store, name).entries, "y" * 6000)
    assert len(get(store, name, 1).description) == tags.DESCRIPTION_LIMIT
