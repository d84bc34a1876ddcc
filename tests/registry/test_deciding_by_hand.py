"""What people do to versions: let them wait, approve, roll back, prune."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from softprompt_core.errors import InvalidInput, Outcome
from softprompt_core.registry import (
    ChampionMoved,
    DecidedMeanwhile,
    Evidence,
    aliases,
    awaiting,
    get,
    history,
    last_decided,
    list_versions,
    pending,
    prunable,
    prune,
    record_decision,
    rollback,
    tags,
)

EVIDENCE = Evidence("0" * 32, "f" * 64)


@pytest.fixture
def stores(sqlite_stores):
    """What differs from store to store is in test_promotion and test_races."""
    return sqlite_stores


@pytest.fixture
def versions(client, name):
    client.create_registered_model(name)
    for _ in range(8):
        given = {tags.STATUS: tags.REGISTERED, tags.BASE_FINGERPRINT: "a" * 64}
        client.create_model_version(name, "s3://nowhere/model", tags=given)


@pytest.fixture
def decide(client, stores, name, versions):
    def run(version, outcome, expected, by="flow", **more):
        given = {"by": by, "reason": "gates", "evidence": EVIDENCE, **more}
        return record_decision(
            client, stores, name=name, version=version, expected_champion=expected, outcome=Outcome(outcome), **given
        )

    return run


@pytest.fixture
def back(client, stores, name):
    return lambda **more: rollback(client, stores, name=name, by="ann", reason="bad answers", **more)


def test_a_version_waits_until_its_time_is_over(client, name, decide):
    decide(1, "promoted", None)
    until = datetime.now(UTC) + timedelta(days=3)
    decide(2, "awaiting_approval", 1, approval_expires=until)
    (waiting,) = pending(client, name)
    assert (waiting.version.version, waiting.compared_with, waiting.champion, waiting.stale) == (2, 1, 1, False)
    assert abs(waiting.version.approval_expires - until) < timedelta(seconds=1)
    assert awaiting(client, name, 2) == waiting
    assert last_decided(client, name).version == 2
    client.set_model_version_tag(name, "2", tags.APPROVAL_EXPIRES, datetime.now(UTC).isoformat())
    with pytest.raises(InvalidInput, match="its approval expired"):
        awaiting(client, name, 2)
    assert [p.version.approval_expired() for p in pending(client, name)] == [True]
    assert last_decided(client, name).version == 1  # so the task is run again


def test_without_a_time_in_the_record_approval_expires_after_two_weeks(client, name, decide):
    decide(1, "awaiting_approval", None)
    (waiting,) = pending(client, name)
    assert waiting.version.approval_expires - waiting.version.decided_at == timedelta(days=14)


def test_a_champion_that_came_later_makes_an_approval_stale(client, name, decide):
    decide(1, "promoted", None)
    decide(2, "awaiting_approval", 1)
    decide(3, "promoted", 1)
    (waiting,) = pending(client, name)
    assert waiting.stale and (waiting.compared_with, waiting.champion) == (1, 3)
    with pytest.raises(ChampionMoved):
        decide(2, "promoted", 1, by="ann", approves=True)
    assert aliases(client, name)[tags.CHAMPION] == 3


@pytest.mark.parametrize("outcome", ["rejected", "awaiting_approval"])
def test_nothing_is_decided_against_a_champion_that_is_not_champion_any_more(client, name, decide, outcome):
    decide(1, "promoted", None)
    decide(2, "promoted", 1)
    with pytest.raises(ChampionMoved):
        decide(3, outcome, 1)
    assert tags.OUTCOME not in get(client, name, 3).tags and tags.CHALLENGER not in aliases(client, name)


def test_of_one_who_approves_and_one_who_rejects_at_once_only_one_is_heard(client, name, decide):
    decide(1, "promoted", None)
    decide(2, "awaiting_approval", 1)
    said, start = [], threading.Barrier(2)

    def say(outcome):
        start.wait()
        try:
            said.append(decide(2, outcome, 1, by=outcome, approves=True, only_if="awaiting_approval").value)
        except (DecidedMeanwhile, ChampionMoved):
            said.append("too late")

    threads = [threading.Thread(target=say, args=(outcome,)) for outcome in ("promoted", "rejected")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = set(said) - {"too late"}
    assert get(client, name, 2).tags[tags.OUTCOME] == winner
    assert aliases(client, name)[tags.CHAMPION] == (2 if winner == "promoted" else 1)
    assert [e.by for e in history(client, name)[2:] if e.status == "completed"] == [winner]


def test_the_champion_cannot_be_turned_down(client, name, decide):
    decide(1, "promoted", None)
    with pytest.raises(InvalidInput, match="is the champion and cannot be turned down"):
        decide(1, "rejected", 1)
    assert get(client, name, 1).tags[tags.OUTCOME] == "promoted"


def test_rollbacks_go_back_one_champion_after_the_other(client, name, decide, back):
    for version, before in ((1, None), (2, 1), (4, 2)):
        decide(version, "promoted", before)
    assert (back().candidate, aliases(client, name)) == (2, {"champion": 2, "previous": 1})
    assert get(client, name, 4).tags[tags.WITHDRAWN].endswith("by ann: bad answers")
    assert (back().candidate, aliases(client, name)) == (1, {"champion": 1})
    with pytest.raises(InvalidInput, match="no earlier champion"):
        back()
    decide(5, "promoted", 1)
    assert aliases(client, name) == {"champion": 5, "previous": 1}
    assert (back(to=4).candidate, aliases(client, name)) == (4, {"champion": 4, "previous": 2})
    assert tags.WITHDRAWN not in get(client, name, 4).tags
    assert [(e.action, e.candidate, e.previous_champion) for e in history(client, name)] == [
        ("promote", 1, None),
        ("promote", 2, 1),
        ("promote", 4, 2),
        ("rollback", 2, 4),
        ("rollback", 1, 2),
        ("promote", 5, 1),
        ("rollback", 4, 5),
    ]


def test_a_rollback_undoes_what_was_done_by_hand(client, name, decide, back):
    decide(1, "promoted", None)
    client.set_registered_model_alias(name, tags.CHAMPION, "6")
    assert (back().candidate, aliases(client, name)) == (1, {"champion": 1})
    client.delete_registered_model_alias(name, tags.CHAMPION)
    assert (back().candidate, aliases(client, name)) == (1, {"champion": 1})
    assert [e.action for e in history(client, name)] == ["promote", *["moved by hand", "rollback"] * 2]


def test_a_rollback_to_a_deleted_version_is_refused(client, name, decide, back):
    decide(1, "promoted", None)
    decide(2, "promoted", 1)
    client.delete_registered_model_alias(name, tags.PREVIOUS)
    client.delete_model_version(name, "1")
    with pytest.raises(InvalidInput, match="does not exist any more"):
        back()
    assert aliases(client, name) == {"champion": 2}


def test_prune_spares_what_is_in_use_was_just_in_use_waits_or_is_undecided(client, stores, name, decide):
    for version, outcome, champion in (
        (1, "rejected", None),
        (2, "promoted", None),
        (3, "promoted", 2),
        (4, "awaiting_approval", 3),
        (5, "rejected", 3),
        (6, "rejected", 3),
    ):
        decide(version, outcome, champion)
    client.set_registered_model_alias(name, "shadow", "1")
    # 1 has an alias of somebody's own, 2 is previous, 3 champion, 4 waits, 6 challenger, 7 and 8 are not decided about.
    assert [v.version for v in prunable(client, name, 0)] == [5]
    assert prunable(client, name, 4) == []
    client.delete_registered_model_alias(name, "shadow")
    assert [v.version for v in prunable(client, name, 0)] == [5, 1]
    assert len(list_versions(client, name)) == 8  # looking deletes nothing
    assert prune(client, stores, name=name, keep=4, by="ann", reason="space") == [1]
    assert prune(client, stores, name=name, keep=0, by="ann", reason="space") == [5]
    assert prune(client, stores, name=name, keep=0, by="ann", reason="space") == []
    assert [v.version for v in list_versions(client, name)] == [8, 7, 6, 4, 3, 2]
    assert aliases(client, name) == {"champion": 3, "previous": 2, "challenger": 6}
    assert [(e.action, e.by, e.reason, e.deleted) for e in history(client, name)[-2:]] == [
        ("prune", "ann", "space", (1,)),
        ("prune", "ann", "space", (5,)),
    ]
    with pytest.raises(InvalidInput, match="no version is registered"):
        prunable(client, "nobody", 1)
    with pytest.raises(InvalidInput, match="fewer than 0"):
        prunable(client, name, -1)


def test_a_pruned_version_takes_its_files_with_it_and_leaves_its_run(client, stores, name, make_version, run_id):
    for _ in range(2):
        made = make_version(tags={tags.OUTCOME: "rejected"})
    model_ids = [output.model_id for output in client.get_run(run_id).outputs.model_outputs]
    assert prune(client, stores, name=name, keep=1, by="ann", reason="old") == [1]
    left = {model.model_id for model in client.search_logged_models([client.get_run(run_id).info.experiment_id])}
    assert len(model_ids) == 2 and len(left) == 1
    assert get(client, name, 2) == made
    assert client.get_run(run_id).info.status == "RUNNING"
