"""Several processes at once, on every kind of store, with nothing in common but the record: each has a home of its own."""

import threading
import time

import pytest
import sqlalchemy

from softprompt_core.errors import Unavailable
from softprompt_core.store import tags
from softprompt_core.store.ledger.entries import history
from softprompt_core.store.ledger.lock import DecisionLock, LockLost, LockTimes, decision_lock, tickets
from softprompt_core.store.ledger.reconcile import repair
from softprompt_core.store.versions import aliases, list_versions
from tests.store.ledgers import make_versions, summary
from tests.store.transports import on_every_database

RACERS = 8
ELSEWHERE = '{"host":"elsewhere","machine":"another","pid":1,"started":"1"}'
"""A process of a machine that nobody here can look into."""


@pytest.fixture
def versions(store, name):
    """A champion, and a version for each racer."""
    make_versions(store, name, RACERS + 1)
    store.client.set_registered_model_alias(name, tags.CHAMPION, "1")


def _waiting(store, name):
    return [ticket for ticket in tickets(store) if ticket.tags[tags.TASK] == name]


@on_every_database
def test_of_eight_that_compared_with_one_champion_exactly_one_wins(store, name, versions, race):
    racers = range(2, 2 + RACERS)
    results = race("promote", store.addresses.tracking_uri, [[name, version, 1] for version in racers])
    assert sorted(results) == ["moved"] * (RACERS - 1) + ["promoted"]
    winner = racers[results.index("promoted")]
    assert aliases(store, name) == {"champion": winner, "previous": 1}
    by_hand, *entries = summary(history(store, name))
    assert by_hand == ("moved by hand", "completed", 1, None)
    assert entries[0] == ("promote", "completed", winner, 1)
    assert sorted(entries[1:]) == [("promote", "superseded", loser, winner) for loser in racers if loser != winner]
    assert _waiting(store, name) == []


@on_every_database
def test_eight_that_try_again_come_one_after_the_other_though_some_die(store, name, versions, race):
    dying = {3: "entry intent", 5: "alias champion", 7: "alias previous", 9: "entry completed"}
    racers = range(2, 2 + RACERS)
    results = race("promote", store.addresses.tracking_uri, [[name, v, -1, dying.get(v)] for v in racers])
    assert results == ["died 9" if v in dying else "promoted" for v in racers]
    repair(store, name)
    entries = [e for e in history(store, name) if e.action == "promote"]
    assert {e.status for e in entries} <= {"completed", "superseded"}
    done = [e for e in entries if e.status == "completed"]
    # Every promotion builds on the one before it: no entry is lost, none is there that moved nothing.
    assert [e.previous_champion for e in done] == [1, *(e.candidate for e in done[:-1])]
    # 7 and 9 may have died over the entry of another one that was dead, with none of their own.
    assert {2, 4, 6, 8} <= {e.candidate for e in done} <= {2, 4, 6, 7, 8, 9}
    (died,) = [e for e in entries if e.candidate == 5 and "broke off" in e.reason]
    assert died.status == "superseded"
    assert aliases(store, name) == {"champion": done[-1].candidate, "previous": done[-1].previous_champion}


@pytest.mark.parametrize("racers", [3, pytest.param(RACERS, marks=pytest.mark.nightly)])
@on_every_database
def test_however_many_contend_every_version_ends_decided_against_the_champion_that_stood_then(
    store, name, versions, race, racers
):
    """Comparing takes longer than deciding, so each promotion makes all others compare again; every third is turned down."""
    contenders = {version: "rejected" if version % 3 == 0 else "promoted" for version in range(2, 2 + racers)}
    results = race("contend", store.addresses.tracking_uri, [[name, v, outcome, 0.3] for v, outcome in contenders.items()])
    assert results == list(contenders.values())
    decided = {version.version: version.tags.get(tags.OUTCOME) for version in list_versions(store, name)}
    assert {version: decided[version] for version in contenders} == contenders
    entries = [entry for entry in history(store, name) if entry.status == "completed"]
    champion = None
    for entry in entries:
        assert entry.previous_champion == champion
        champion = entry.candidate if entry.action != "reject" else champion
    assert aliases(store, name)["champion"] == champion
    # Who lost waits for its turn: nobody compares in vain for more often than others came for the first time.
    assert sum(entry.status == "superseded" for entry in history(store, name)) <= 2 * racers
    assert [ticket for ticket in tickets(store) if name in ticket.tags[tags.TASK]] == []


def test_a_queue_is_waited_for_as_long_as_it_moves(store, name):
    """Patience is with one holder: however many stand before, each takes less."""
    first, second = (DecisionLock(store, name, owner=ELSEWHERE) for _ in range(2))
    first.acquire()
    second._draw()
    began = time.monotonic()
    timers = [threading.Timer(1.5, first.release), threading.Timer(3.0, second.release)]
    for timer in timers:
        timer.start()
    with decision_lock(store, name, LockTimes(patience_s=2.5)):
        assert time.monotonic() - began > 2.5
    for timer in timers:
        timer.join()


@on_every_database
def test_the_tickets_of_the_queue_are_no_versions_of_a_task(store, name):
    with decision_lock(store, name):
        assert len(_waiting(store, name)) == 1
        assert tags.LOCKS not in {version.name for version in list_versions(store)}
    assert _waiting(store, name) == []


@on_every_database
def test_a_silent_process_of_another_machine_is_passed_over_and_may_not_write_any_more(store, name):
    lost = DecisionLock(store, name, owner=ELSEWHERE)
    lost.acquire()
    began = time.monotonic()
    with decision_lock(store, name, LockTimes(lease_s=1.0)) as lock:
        assert time.monotonic() - began > 1.0
        with pytest.raises(LockLost, match="not done: alias champion"):
            lost.heartbeat("alias champion")
        lock.heartbeat("alias champion")
    lost.release()


def test_who_shows_signs_of_life_keeps_the_turn(store, name):
    busy = DecisionLock(store, name, owner=ELSEWHERE)
    busy.acquire()
    ended = threading.Event()

    def live():
        while not ended.wait(0.2):
            busy.heartbeat("still there")

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with (
            pytest.raises(Unavailable, match="elsewhere, process 1, has been busy"),
            decision_lock(store, name, LockTimes(lease_s=1.0, patience_s=3.0)),
        ):
            pass
    finally:
        ended.set()
        thread.join()
    busy.heartbeat("after all")
    busy.release()
    assert tickets(store) == []


def test_no_write_to_a_ticket_reads_those_of_the_past(store, name):
    """MLflow keeps deleted versions for ever, and its client would read them all before each write."""
    for _ in range(3):
        with decision_lock(store, name):
            pass
    statements = []

    def note(connection, cursor, statement, *rest):
        statements.append(statement)

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", note)
    try:
        with decision_lock(store, name) as lock:
            lock.heartbeat("entry intent")
    finally:
        sqlalchemy.event.remove(sqlalchemy.engine.Engine, "before_cursor_execute", note)
    reads = [
        statement.partition("WHERE")[2]
        for statement in statements
        if "FROM model_versions" in statement and "max(" not in statement
    ]
    assert reads and all("current_stage !=" in condition for condition in reads), reads


def test_tasks_do_not_wait_for_each_other(store, name):
    with decision_lock(store, name), decision_lock(store, f"{name}-2"):
        assert len(tickets(store)) == 2


def test_a_ticket_that_somebody_deletes_ends_the_turn(store, name):
    with decision_lock(store, name) as lock:
        store.client.delete_registered_model(tags.LOCKS)
        with pytest.raises(LockLost):
            lock.heartbeat("entry intent")
    with decision_lock(store, name) as lock:
        lock.heartbeat("entry intent")
