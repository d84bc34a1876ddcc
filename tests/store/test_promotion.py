import pickle
from datetime import UTC, datetime, timedelta

import pytest

from softprompt_core.errors import InvalidInput, Outcome
from softprompt_core.store import tags
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger import entries as ledger
from softprompt_core.store.ledger.entries import Entry, history
from softprompt_core.store.ledger.moves import ChampionMoved
from softprompt_core.store.ledger.recording import with_current_champion
from softprompt_core.store.versions import aliases, get, last_decided
from tests.store import ledgers
from tests.store.ledgers import EVIDENCE, make_versions, summary
from tests.store.transports import on_sqlite_and_server


@pytest.fixture
def versions(store, name):
    make_versions(store, name, 4)


@pytest.fixture
def decide(store, name, versions):
    def run(version, outcome=Outcome.PROMOTED, expected=None, **more):
        return ledgers.decide(store, name, version, expected, outcome, **more)

    return run


def _entry(status, candidate, previous_champion, **more):
    fields = {"key": ledger.new_key(), "action": "promote", "by": "ann", "reason": "gates passed", "evidence": EVIDENCE, **more}
    return Entry(status=status, candidate=candidate, previous_champion=previous_champion, **fields)


@on_sqlite_and_server
def test_a_promotion_moves_the_aliases_and_tells_the_whole_story(store, name, decide):
    before = datetime.now(UTC)
    assert decide(1) is Outcome.PROMOTED
    assert aliases(store, name) == {"champion": 1}
    assert decide(3, expected=1, by="flow", reason="accuracy 0.91 ≥ 0.85") is Outcome.PROMOTED
    assert aliases(store, name) == {"champion": 3, "previous": 1}
    first, second = history(store, name)
    assert (first.candidate, first.previous_champion, first.by) == (1, None, "ann")
    assert second == _entry("completed", 3, 1, key=second.key, by="flow", reason="accuracy 0.91 ≥ 0.85")
    assert before <= first.at <= second.at <= datetime.now(UTC) + timedelta(seconds=1)
    assert get(store, name, 3).tags[tags.OUTCOME] == "promoted"
    assert datetime.fromisoformat(get(store, name, 3).tags[tags.DECIDED_AT]).tzinfo is not None


@on_sqlite_and_server
@pytest.mark.parametrize(("outcome", "action"), [(Outcome.REJECTED, "reject"), (Outcome.AWAITING_APPROVAL, "await")])
def test_a_version_that_is_not_promoted_becomes_challenger_and_the_champion_stays(store, name, decide, outcome, action):
    decide(1)
    assert decide(2, outcome, expected=1, reason="too bad") is outcome
    assert aliases(store, name) == {"champion": 1, "challenger": 2}
    assert summary(history(store, name))[-1] == (action, "completed", 2, 1)
    assert last_decided(store, name).tags[tags.OUTCOME] == outcome.value


@on_sqlite_and_server
def test_a_promoted_challenger_is_a_challenger_no_more(store, name, decide):
    decide(1)
    decide(2, Outcome.AWAITING_APPROVAL, expected=1)
    decide(2, expected=1, by="a reviewer")
    assert aliases(store, name) == {"champion": 2, "previous": 1}
    assert get(store, name, 2).tags[tags.OUTCOME] == "promoted"


@on_sqlite_and_server
def test_a_champion_moved_by_hand_meanwhile_is_noticed_and_stays(store, name, decide):
    decide(1)
    store.client.set_registered_model_alias(name, tags.CHAMPION, "2")
    with pytest.raises(ChampionMoved, match="version 2, not version 1") as caught:
        decide(3, expected=1)
    assert aliases(store, name) == {"champion": 2}
    assert summary(history(store, name))[-1] == ("promote", "superseded", 3, 2)
    assert tags.OUTCOME not in get(store, name, 3).tags
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@on_sqlite_and_server
def test_a_champion_deleted_by_hand_meanwhile_is_noticed(store, name, decide):
    decide(1)
    store.client.delete_registered_model_alias(name, tags.CHAMPION)
    with pytest.raises(ChampionMoved, match="no version, not version 1"):
        decide(3, expected=1)
    assert tags.CHAMPION not in aliases(store, name)


def test_a_first_version_does_not_overrun_a_champion_that_appeared(store, name, decide):
    decide(1)
    with pytest.raises(ChampionMoved):
        decide(2, expected=None)
    assert aliases(store, name) == {"champion": 1}


def test_a_candidate_that_somebody_made_champion_by_hand_is_noticed(store, name, decide):
    decide(1)
    store.client.set_registered_model_alias(name, tags.CHAMPION, "2")
    with pytest.raises(ChampionMoved):
        decide(2, expected=1)


@on_sqlite_and_server
def test_recording_a_promotion_twice_changes_nothing(store, name, decide):
    decide(1)
    decide(2, expected=1)
    before = aliases(store, name), history(store, name), get(store, name, 2)
    assert decide(2, expected=1) is Outcome.PROMOTED
    assert (aliases(store, name), history(store, name), get(store, name, 2)) == before


@on_sqlite_and_server
def test_a_retry_finishes_a_promotion_that_died_after_the_alias_moved(store, name, decide):
    decide(1)
    ledger.write(store, name, _entry("intent", 2, 1))
    store.client.set_registered_model_alias(name, tags.PREVIOUS, "1")
    store.client.set_registered_model_alias(name, tags.CHAMPION, "2")
    assert decide(2, expected=1) is Outcome.PROMOTED
    assert summary(history(store, name)) == [("promote", "completed", 1, None), ("promote", "completed", 2, 1)]
    assert get(store, name, 2).tags[tags.OUTCOME] == "promoted"


def test_a_retry_redoes_a_promotion_that_died_before_the_alias_moved(store, name, decide):
    decide(1)
    ledger.write(store, name, _entry("intent", 2, 1))
    assert decide(2, expected=1) is Outcome.PROMOTED
    assert [s for _, s, _, _ in summary(history(store, name))] == ["completed", "superseded", "completed"]
    assert aliases(store, name) == {"champion": 2, "previous": 1}


class _RecordingClient:
    """A real client that records the order of the calls that change the registry."""

    def __init__(self, client):
        self._client, self.calls = client, []

    def __getattr__(self, method):
        call = getattr(self._client, method)
        if not method.startswith(("set_", "delete_")):
            return call

        def recorded(name, *rest):
            if name != tags.LOCKS:
                self.calls.append((method, *rest))
            return call(name, *rest)

        return recorded


@on_sqlite_and_server
def test_the_ledger_is_written_before_any_alias_moves(store, name, versions):
    recording = _RecordingClient(store.client)
    ledgers.decide(Store(store.addresses, recording), name, 1)
    methods = [call[0] for call in recording.calls]
    alias = methods.index("set_registered_model_alias")
    assert methods[:alias] == ["set_registered_model_tag"]
    assert '"status":"intent"' in recording.calls[0][2]
    assert methods[-1] == "set_registered_model_tag"
    assert '"status":"completed"' in recording.calls[-1][2]


def test_an_attempt_is_repeated_with_the_champion_that_stands_then(store, name, decide):
    decide(1)
    compared_with = []

    def attempt():
        champion = aliases(store, name)[tags.CHAMPION]
        compared_with.append(champion)
        if champion == 1:
            decide(2, expected=1)  # another process is faster
        return decide(3, expected=champion)

    assert with_current_champion(store, name, attempt) is Outcome.PROMOTED
    assert compared_with == [1, 2] and aliases(store, name) == {"champion": 3, "previous": 2}


def test_a_loser_is_judged_however_often_the_champion_moves_meanwhile(store, name, decide):
    ledgers.add_versions(store, name, 4)
    decide(1)
    compared_with = []

    def attempt():
        champion = aliases(store, name)[tags.CHAMPION]
        compared_with.append(champion)
        if champion < 7:
            decide(champion + 1, expected=champion)  # somebody new is faster, again and again
        return decide(8, Outcome.REJECTED, expected=champion)

    assert with_current_champion(store, name, attempt) is Outcome.REJECTED
    assert compared_with == [1, 2, 3, 4, 5, 6, 7] and get(store, name, 8).tags[tags.OUTCOME] == "rejected"


@on_sqlite_and_server
@pytest.mark.parametrize("text", ["x" * 20_000, '"\n' * 9_000, "ü" * 9_000])
def test_a_long_reason_is_cut_to_what_every_database_holds(store, name, decide, text):
    decide(1, reason=text)
    (stored,) = (v for k, v in store.client.get_registered_model(name).tags.items() if k.startswith(tags.LEDGER_PREFIX))
    assert 4000 < len(stored) < 5000
    (entry,) = history(store, name)
    assert entry.reason.endswith("…")
    assert text.startswith(entry.reason[:-1])


def test_a_decision_needs_a_name_a_version_and_an_outcome_that_decides(store, name, decide):
    with pytest.raises(InvalidInput, match="who decided"):
        decide(1, by="  ")
    with pytest.raises(InvalidInput, match="no such version"):
        decide(99)
    with pytest.raises(ValueError, match="not a decision"):
        decide(1, Outcome.UNCHANGED)
    assert history(store, name) == []
    assert aliases(store, name) == {}


def test_a_version_whose_registration_broke_off_cannot_be_promoted(store, name, decide):
    store.client.delete_model_version_tag(name, "2", tags.STATUS)
    with pytest.raises(InvalidInput, match="broke off"):
        decide(2)
    assert aliases(store, name) == {}


def test_a_ledger_entry_that_cannot_be_read_is_named(store, name, versions):
    store.client.set_registered_model_tag(name, tags.LEDGER_PREFIX + "yesterday", "moved it")
    with pytest.raises(InvalidInput, match=r"ledger\.yesterday"):
        history(store, name)


def test_a_task_without_a_model_has_no_history(store):
    assert history(store, "never-registered") == []
