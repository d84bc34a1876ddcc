"""Several processes at once, on every kind of store, with nothing in common but the record: each has a home of its own."""

import threading
import time

import pytest
import sqlalchemy

from softprompt_core.errors import Unavailable
from softprompt_core.registry import aliases, connect, history, list_versions, processes, repair, tags, turns
from softprompt_core.registry.turns import TurnLost, tickets, turn

RACERS = 8


@pytest.fixture
def client(any_stores):
    return connect(any_stores)


@pytest.fixture
def versions(client, name):
    """A champion, and a version for each racer."""
    client.create_registered_model(name)
    for _ in range(RACERS + 1):
        client.create_model_version(name, "s3://nowhere/model", tags={tags.STATUS: tags.REGISTERED})
    client.set_registered_model_alias(name, tags.CHAMPION, "1")


def _waiting(client, name):
    return [ticket for ticket in tickets(client) if ticket.tags[tags.TASK] == name]


def _short(entries):
    return [(e.action, e.status, e.candidate, e.previous_champion) for e in entries]


def test_of_eight_that_compared_with_one_champion_exactly_one_wins(any_stores, client, name, versions, race):
    racers = range(2, 2 + RACERS)
    results = race("promote", any_stores.tracking_uri, [[name, version, 1] for version in racers])
    assert sorted(results) == ["moved"] * (RACERS - 1) + ["promoted"]
    winner = racers[results.index("promoted")]
    assert aliases(client, name) == {"champion": winner, "previous": 1}
    by_hand, *entries = _short(history(client, name))
    assert by_hand == ("moved by hand", "completed", 1, None)
    assert entries[0] == ("promote", "completed", winner, 1)
    assert sorted(entries[1:]) == [("promote", "superseded", loser, winner) for loser in racers if loser != winner]
    assert _waiting(client, name) == []


def test_eight_that_try_again_come_one_after_the_other_though_some_die(any_stores, client, name, versions, race):
    dying = {3: "entry intent", 5: "alias champion", 7: "alias previous", 9: "entry completed"}
    racers = range(2, 2 + RACERS)
    results = race("promote", any_stores.tracking_uri, [[name, v, -1, dying.get(v)] for v in racers])
    assert results == ["died 9" if v in dying else "promoted" for v in racers]
    repair(client, any_stores, name)
    entries = [e for e in history(client, name) if e.action == "promote"]
    assert {e.status for e in entries} <= {"completed", "superseded"}
    done = [e for e in entries if e.status == "completed"]
    # Every promotion builds on the one before it: no entry is lost, none is there that moved nothing.
    assert [e.previous_champion for e in done] == [1, *(e.candidate for e in done[:-1])]
    # 7 and 9 may have died over the entry of another one that was dead, with none of their own.
    assert {2, 4, 6, 8} <= {e.candidate for e in done} <= {2, 4, 6, 7, 8, 9}
    (died,) = [e for e in entries if e.candidate == 5 and "broke off" in e.reason]
    assert died.status == "superseded"
    assert aliases(client, name) == {"champion": done[-1].candidate, "previous": done[-1].previous_champion}


def test_the_tickets_of_the_queue_are_no_versions_of_a_task(any_stores, client, name):
    with turn(client, any_stores, name):
        assert len(_waiting(client, name)) == 1
        assert tags.LOCKS not in {version.name for version in list_versions(client)}
    assert _waiting(client, name) == []


@pytest.fixture
def elsewhere(monkeypatch):
    """Tickets drawn now are those of a machine that nobody here can look into."""
    told = '{"host":"elsewhere","machine":"another","pid":1,"started":"1"}'
    monkeypatch.setattr(processes, "me", lambda: told)


def test_a_silent_process_of_another_machine_is_passed_over_and_may_not_write_any_more(
    any_stores, client, name, elsewhere, monkeypatch
):
    monkeypatch.setattr(turns, "LEASE_S", 1.0)
    lost = turns.Turn(client, name)
    lost.take()
    began = time.monotonic()
    with turn(client, any_stores, name) as held:
        assert time.monotonic() - began > 1.0
        with pytest.raises(TurnLost, match="not done: alias champion"):
            lost.confirm("alias champion")
        held.confirm("alias champion")
    lost.leave()


def test_who_shows_signs_of_life_keeps_the_turn(sqlite_stores, name, elsewhere, monkeypatch):
    client = connect(sqlite_stores)
    monkeypatch.setattr(turns, "LEASE_S", 1.0)
    monkeypatch.setattr(turns, "PATIENCE_S", 3.0)
    busy = turns.Turn(client, name)
    busy.take()
    ended = threading.Event()

    def live():
        while not ended.wait(0.2):
            busy.confirm("still there")

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(Unavailable, match="elsewhere, process 1, has been busy"), turn(client, sqlite_stores, name):
            pass
    finally:
        ended.set()
        thread.join()
    busy.confirm("after all")
    busy.leave()
    assert tickets(client) == []


def test_no_write_to_a_ticket_reads_those_of_the_past(sqlite_stores, name):
    """MLflow keeps deleted versions for ever, and its client would read them all before each write."""
    client = connect(sqlite_stores)
    for _ in range(3):
        with turn(client, sqlite_stores, name):
            pass
    asked = []

    def note(connection, cursor, statement, *rest):
        asked.append(statement)

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", note)
    try:
        with turn(client, sqlite_stores, name) as held:
            held.confirm("entry intent")
    finally:
        sqlalchemy.event.remove(sqlalchemy.engine.Engine, "before_cursor_execute", note)
    reads = [
        statement.partition("WHERE")[2] for statement in asked if "FROM model_versions" in statement and "max(" not in statement
    ]
    assert reads and all("current_stage !=" in condition for condition in reads), reads


def test_tasks_do_not_wait_for_each_other(sqlite_stores, name):
    client = connect(sqlite_stores)
    with turn(client, sqlite_stores, name), turn(client, sqlite_stores, f"{name}-2"):
        assert len(tickets(client)) == 2


def test_a_ticket_that_somebody_deletes_ends_the_turn(sqlite_stores, name):
    client = connect(sqlite_stores)
    with turn(client, sqlite_stores, name) as held:
        client.delete_registered_model(tags.LOCKS)
        with pytest.raises(TurnLost):
            held.confirm("entry intent")
    with turn(client, sqlite_stores, name) as held:
        held.confirm("entry intent")
