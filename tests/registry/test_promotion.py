import pickle
from datetime import UTC, datetime, timedelta

import pytest

from softprompt_core.errors import InvalidInput, Outcome
from softprompt_core.registry import (
    ChampionMoved,
    Entry,
    Evidence,
    aliases,
    get,
    history,
    last_decided,
    ledger,
    record_decision,
    tags,
)

EVIDENCE = Evidence("0" * 32, "f" * 64)


@pytest.fixture
def versions(client, name):
    """Four versions, as far as decisions care: registered, with no files."""
    client.create_registered_model(name)
    for _ in range(4):
        client.create_model_version(name, "s3://nowhere/model", tags={tags.STATUS: tags.REGISTERED})


@pytest.fixture
def decide(client, stores, name, versions):
    def run(version, outcome=Outcome.PROMOTED, expected=None, by="ann", reason="gates passed"):
        return record_decision(
            client,
            stores,
            name=name,
            version=version,
            expected_champion=expected,
            outcome=outcome,
            by=by,
            reason=reason,
            evidence=EVIDENCE,
        )

    return run


def _short(entries):
    return [(e.action, e.status, e.candidate, e.previous_champion) for e in entries]


def test_a_promotion_moves_the_aliases_and_tells_the_whole_story(client, name, decide):
    before = datetime.now(UTC)
    assert decide(1) is Outcome.PROMOTED
    assert aliases(client, name) == {"champion": 1}
    assert decide(3, expected=1, by="flow", reason="accuracy 0.91 ≥ 0.85") is Outcome.PROMOTED
    assert aliases(client, name) == {"champion": 3, "previous": 1}
    first, second = history(client, name)
    assert (first.candidate, first.previous_champion, first.by) == (1, None, "ann")
    assert second == Entry(second.key, "promote", "completed", "flow", "accuracy 0.91 ≥ 0.85", 3, 1, EVIDENCE)
    assert before <= first.at <= second.at <= datetime.now(UTC) + timedelta(seconds=1)
    assert get(client, name, 3).tags[tags.OUTCOME] == "promoted"
    assert datetime.fromisoformat(get(client, name, 3).tags[tags.DECIDED_AT]).tzinfo is not None


@pytest.mark.parametrize(("outcome", "action"), [(Outcome.REJECTED, "reject"), (Outcome.AWAITING_APPROVAL, "await")])
def test_a_version_that_is_not_promoted_becomes_challenger_and_the_champion_stays(client, name, decide, outcome, action):
    decide(1)
    assert decide(2, outcome, expected=1, reason="too bad") is outcome
    assert aliases(client, name) == {"champion": 1, "challenger": 2}
    assert _short(history(client, name))[-1] == (action, "completed", 2, 1)
    assert last_decided(client, name).tags[tags.OUTCOME] == outcome.value


def test_a_promoted_challenger_is_a_challenger_no_more(client, name, decide):
    decide(1)
    decide(2, Outcome.AWAITING_APPROVAL, expected=1)
    decide(2, expected=1, by="a reviewer")
    assert aliases(client, name) == {"champion": 2, "previous": 1}
    assert get(client, name, 2).tags[tags.OUTCOME] == "promoted"


def test_a_champion_moved_by_hand_meanwhile_is_noticed_and_stays(client, name, decide):
    decide(1)
    client.set_registered_model_alias(name, tags.CHAMPION, "2")
    with pytest.raises(ChampionMoved, match="version 2, not version 1") as caught:
        decide(3, expected=1)
    assert aliases(client, name) == {"champion": 2}
    assert _short(history(client, name))[-1] == ("promote", "superseded", 3, 2)
    assert tags.OUTCOME not in get(client, name, 3).tags
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_champion_deleted_by_hand_meanwhile_is_noticed(client, name, decide):
    decide(1)
    client.delete_registered_model_alias(name, tags.CHAMPION)
    with pytest.raises(ChampionMoved, match="no version, not version 1"):
        decide(3, expected=1)
    assert tags.CHAMPION not in aliases(client, name)


def test_a_first_version_does_not_overrun_a_champion_that_appeared(client, name, decide):
    decide(1)
    with pytest.raises(ChampionMoved):
        decide(2, expected=None)
    assert aliases(client, name) == {"champion": 1}


def test_a_candidate_that_somebody_made_champion_by_hand_is_noticed(client, name, decide):
    decide(1)
    client.set_registered_model_alias(name, tags.CHAMPION, "2")
    with pytest.raises(ChampionMoved):
        decide(2, expected=1)


def test_recording_a_promotion_twice_changes_nothing(client, name, decide):
    decide(1)
    decide(2, expected=1)
    before = aliases(client, name), history(client, name), get(client, name, 2)
    assert decide(2, expected=1) is Outcome.PROMOTED
    assert (aliases(client, name), history(client, name), get(client, name, 2)) == before


def test_a_retry_finishes_a_promotion_that_died_after_the_alias_moved(client, name, decide):
    decide(1)
    ledger.write(client, name, Entry(ledger.new_key(), "promote", "intent", "ann", "gates passed", 2, 1, EVIDENCE))
    client.set_registered_model_alias(name, tags.PREVIOUS, "1")
    client.set_registered_model_alias(name, tags.CHAMPION, "2")
    assert decide(2, expected=1) is Outcome.PROMOTED
    assert _short(history(client, name)) == [("promote", "completed", 1, None), ("promote", "completed", 2, 1)]
    assert get(client, name, 2).tags[tags.OUTCOME] == "promoted"


def test_a_retry_redoes_a_promotion_that_died_before_the_alias_moved(client, name, decide):
    decide(1)
    ledger.write(client, name, Entry(ledger.new_key(), "promote", "intent", "ann", "gates passed", 2, 1, EVIDENCE))
    assert decide(2, expected=1) is Outcome.PROMOTED
    assert [s for _, s, _, _ in _short(history(client, name))] == ["completed", "superseded", "completed"]
    assert aliases(client, name) == {"champion": 2, "previous": 1}


class _Recording:
    """A real client that writes down the order of what changes the registry."""

    def __init__(self, client):
        self._client, self.steps = client, []

    def __getattr__(self, method):
        call = getattr(self._client, method)
        if not method.startswith(("set_", "delete_")):
            return call

        def recorded(name, *rest):
            if name != tags.LOCKS:
                self.steps.append((method, *rest))
            return call(name, *rest)

        return recorded


def test_the_ledger_is_written_before_any_alias_moves(client, stores, name, versions):
    recording = _Recording(client)
    record_decision(
        recording,
        stores,
        name=name,
        version=1,
        expected_champion=None,
        outcome=Outcome.PROMOTED,
        by="ann",
        reason="",
        evidence=EVIDENCE,
    )
    methods = [step[0] for step in recording.steps]
    alias = methods.index("set_registered_model_alias")
    assert methods[:alias] == ["set_registered_model_tag"]
    assert '"status":"intent"' in recording.steps[0][2]
    assert methods[-1] == "set_registered_model_tag"
    assert '"status":"completed"' in recording.steps[-1][2]


@pytest.mark.parametrize("text", ["x" * 20_000, '"\n' * 9_000, "ü" * 9_000])
def test_a_long_reason_is_cut_to_what_every_database_holds(client, name, decide, text):
    decide(1, reason=text)
    (stored,) = (v for k, v in client.get_registered_model(name).tags.items() if k.startswith(tags.LEDGER_PREFIX))
    assert 4000 < len(stored) < 5000
    (entry,) = history(client, name)
    assert entry.reason.endswith("…")
    assert text.startswith(entry.reason[:-1])


def test_a_decision_needs_a_name_a_version_and_an_outcome_that_decides(client, name, decide):
    with pytest.raises(InvalidInput, match="who decided"):
        decide(1, by="  ")
    with pytest.raises(InvalidInput, match="no such version"):
        decide(99)
    with pytest.raises(ValueError, match="not a decision"):
        decide(1, Outcome.UNCHANGED)
    assert history(client, name) == []
    assert aliases(client, name) == {}


def test_a_version_whose_registration_broke_off_cannot_be_promoted(client, name, decide):
    client.delete_model_version_tag(name, "2", tags.STATUS)
    with pytest.raises(InvalidInput, match="broke off"):
        decide(2)
    assert aliases(client, name) == {}


def test_a_ledger_entry_that_cannot_be_read_is_named(client, name, versions):
    client.set_registered_model_tag(name, tags.LEDGER_PREFIX + "yesterday", "moved it")
    with pytest.raises(InvalidInput, match=r"ledger\.yesterday"):
        history(client, name)


def test_a_task_without_a_model_has_no_history(client):
    assert history(client, "never-registered") == []
