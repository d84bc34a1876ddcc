"""What people do to versions: let them wait, approve, roll back, prune."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from softprompt_core.errors import InvalidInput
from softprompt_core.store import tags
from softprompt_core.store.ledger.approval import awaiting, pending
from softprompt_core.store.ledger.entries import history
from softprompt_core.store.ledger.moves import ChampionMoved
from softprompt_core.store.ledger.pruning import prunable, prune
from softprompt_core.store.ledger.recording import DecidedMeanwhile, rollback
from softprompt_core.store.versions import aliases, get, last_decided, list_versions
from tests.store import ledgers


@pytest.fixture
def decide(store, name):
    ledgers.make_versions(store, name, 8)
    return lambda version, outcome, expected, **more: ledgers.decide(store, name, version, expected, outcome, **more)


@pytest.fixture
def back(store, name):
    return lambda **more: rollback(store, name=name, by="ann", reason="bad answers", **more)


def test_a_version_waits_until_its_time_is_over(store, name, decide):
    decide(1, "promoted", None)
    until = datetime.now(UTC) + timedelta(days=3)
    decide(2, "awaiting_approval", 1, approval_expires=until)
    (waiting,) = pending(store, name)
    assert (waiting.version.version, waiting.compared_with, waiting.champion, waiting.stale) == (2, 1, 1, False)
    assert abs(waiting.version.approval_expires - until) < timedelta(seconds=1)
    assert awaiting(store, name, 2) == waiting
    assert last_decided(store, name).version == 2
    store.client.set_model_version_tag(name, "2", tags.APPROVAL_EXPIRES, datetime.now(UTC).isoformat())
    with pytest.raises(InvalidInput, match="its approval expired"):
        awaiting(store, name, 2)
    assert [p.version.approval_expired() for p in pending(store, name)] == [True]
    assert last_decided(store, name).version == 1  # so the task is run again


def test_without_a_time_in_the_record_approval_expires_after_two_weeks(store, name, decide):
    decide(1, "awaiting_approval", None)
    (waiting,) = pending(store, name)
    assert waiting.version.approval_expires - waiting.version.decided_at == timedelta(days=14)


def test_a_champion_that_came_later_makes_an_approval_stale(store, name, decide):
    decide(1, "promoted", None)
    decide(2, "awaiting_approval", 1)
    decide(3, "promoted", 1)
    (waiting,) = pending(store, name)
    assert waiting.stale and (waiting.compared_with, waiting.champion) == (1, 3)
    with pytest.raises(ChampionMoved):
        decide(2, "promoted", 1, by="ann", approves=True)
    assert aliases(store, name)[tags.CHAMPION] == 3


@pytest.mark.parametrize("outcome", ["rejected", "awaiting_approval"])
def test_nothing_is_decided_against_a_champion_that_is_not_champion_any_more(store, name, decide, outcome):
    decide(1, "promoted", None)
    decide(2, "promoted", 1)
    with pytest.raises(ChampionMoved):
        decide(3, outcome, 1)
    assert tags.OUTCOME not in get(store, name, 3).tags and tags.CHALLENGER not in aliases(store, name)


def test_of_one_who_approves_and_one_who_rejects_at_once_only_one_is_heard(store, name, decide):
    decide(1, "promoted", None)
    decide(2, "awaiting_approval", 1)
    results, start = [], threading.Barrier(2)

    def answer(outcome):
        start.wait()
        try:
            results.append(decide(2, outcome, 1, by=outcome, approves=True, only_if="awaiting_approval").value)
        except (DecidedMeanwhile, ChampionMoved):
            results.append("too late")

    threads = [threading.Thread(target=answer, args=(outcome,)) for outcome in ("promoted", "rejected")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = set(results) - {"too late"}
    assert get(store, name, 2).tags[tags.OUTCOME] == winner
    assert aliases(store, name)[tags.CHAMPION] == (2 if winner == "promoted" else 1)
    assert [e.by for e in history(store, name)[2:] if e.status == "completed"] == [winner]


def test_the_champion_cannot_be_turned_down(store, name, decide):
    decide(1, "promoted", None)
    with pytest.raises(InvalidInput, match="is the champion and cannot be turned down"):
        decide(1, "rejected", 1)
    assert get(store, name, 1).tags[tags.OUTCOME] == "promoted"


def test_rollbacks_go_back_one_champion_after_the_other(store, name, decide, back):
    for version, before in ((1, None), (2, 1), (4, 2)):
        decide(version, "promoted", before)
    assert (back().candidate, aliases(store, name)) == (2, {"champion": 2, "previous": 1})
    assert get(store, name, 4).tags[tags.WITHDRAWN].endswith("by ann: bad answers")
    assert (back().candidate, aliases(store, name)) == (1, {"champion": 1})
    with pytest.raises(InvalidInput, match="no earlier champion"):
        back()
    decide(5, "promoted", 1)
    assert aliases(store, name) == {"champion": 5, "previous": 1}
    assert (back(to=4).candidate, aliases(store, name)) == (4, {"champion": 4, "previous": 2})
    assert tags.WITHDRAWN not in get(store, name, 4).tags
    assert [(e.action, e.candidate, e.previous_champion) for e in history(store, name)] == [
        ("promote", 1, None),
        ("promote", 2, 1),
        ("promote", 4, 2),
        ("rollback", 2, 4),
        ("rollback", 1, 2),
        ("promote", 5, 1),
        ("rollback", 4, 5),
    ]


def test_a_rollback_undoes_what_was_done_by_hand(store, name, decide, back):
    decide(1, "promoted", None)
    store.client.set_registered_model_alias(name, tags.CHAMPION, "6")
    assert (back().candidate, aliases(store, name)) == (1, {"champion": 1})
    store.client.delete_registered_model_alias(name, tags.CHAMPION)
    assert (back().candidate, aliases(store, name)) == (1, {"champion": 1})
    assert [e.action for e in history(store, name)] == ["promote", *["moved by hand", "rollback"] * 2]


def test_a_rollback_to_a_deleted_version_is_refused(store, name, decide, back):
    decide(1, "promoted", None)
    decide(2, "promoted", 1)
    store.client.delete_registered_model_alias(name, tags.PREVIOUS)
    store.client.delete_model_version(name, "1")
    with pytest.raises(InvalidInput, match="does not exist any more"):
        back()
    assert aliases(store, name) == {"champion": 2}


def test_prune_spares_what_is_in_use_was_just_in_use_waits_or_is_undecided(store, name, decide):
    for version, outcome, champion in (
        (1, "rejected", None),
        (2, "promoted", None),
        (3, "promoted", 2),
        (4, "awaiting_approval", 3),
        (5, "rejected", 3),
        (6, "rejected", 3),
    ):
        decide(version, outcome, champion)
    store.client.set_registered_model_alias(name, "shadow", "1")
    # 1 has an alias of somebody's own, 2 is previous, 3 champion, 4 waits, 6 challenger, 7 and 8 are not decided about.
    assert [v.version for v in prunable(store, name, 0)] == [5]
    assert prunable(store, name, 4) == []
    store.client.delete_registered_model_alias(name, "shadow")
    assert [v.version for v in prunable(store, name, 0)] == [5, 1]
    assert len(list_versions(store, name)) == 8  # looking deletes nothing
    assert prune(store, name=name, keep=4, by="ann", reason="space") == [1]
    assert prune(store, name=name, keep=0, by="ann", reason="space") == [5]
    assert prune(store, name=name, keep=0, by="ann", reason="space") == []
    assert [v.version for v in list_versions(store, name)] == [8, 7, 6, 4, 3, 2]
    assert aliases(store, name) == {"champion": 3, "previous": 2, "challenger": 6}
    assert [(e.action, e.by, e.reason, e.deleted) for e in history(store, name)[-2:]] == [
        ("prune", "ann", "space", (1,)),
        ("prune", "ann", "space", (5,)),
    ]
    with pytest.raises(InvalidInput, match="no version is registered"):
        prunable(store, "nobody", 1)
    with pytest.raises(InvalidInput, match="fewer than 0"):
        prunable(store, name, -1)


def test_a_pruned_version_takes_its_files_with_it_and_leaves_its_run(store, name, make_version, run_id):
    for _ in range(2):
        newest = make_version(tags={tags.OUTCOME: "rejected"})
    model_ids = [output.model_id for output in store.client.get_run(run_id).outputs.model_outputs]
    assert prune(store, name=name, keep=1, by="ann", reason="old") == [1]
    left = {model.model_id for model in store.client.search_logged_models([store.client.get_run(run_id).info.experiment_id])}
    assert len(model_ids) == 2 and len(left) == 1
    assert get(store, name, 2) == newest
    assert store.client.get_run(run_id).info.status == "RUNNING"
