"""A process that dies at any step of a decision leaves something that the next decision, or a repair, brings in order."""

import json
import shutil
import subprocess

import pytest

from softprompt_core.store import processes, tags
from softprompt_core.store.addresses import Addresses
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger.entries import history
from softprompt_core.store.ledger.lock import clear_dead_tickets, tickets
from softprompt_core.store.ledger.reconcile import repair, task_state
from softprompt_core.store.runs import end_all_killed_runs, experiment_id, start_run
from softprompt_core.store.versions import aliases, get, list_versions
from tests.store.ledgers import add_versions, decide, make_versions, summary


def _task(store, name):
    """Versions 1 to 3; 1 was champion, 2 is."""
    make_versions(store, name, 3)
    for version, before in ((1, None), (2, 1)):
        decide(store, name, version, before)


# What a death before each step leads to, after the repair: the aliases, the last entry, and the outcome of version 3.
UNDONE = ({"champion": 2, "previous": 1}, ("promote", "completed", 2, 1), None)
VOID = ({"champion": 2, "previous": 1}, ("promote", "superseded", 3, 2), None)
DONE = ({"champion": 3, "previous": 2}, ("promote", "completed", 3, 2), "promoted")
REJECTED = ({"champion": 2, "previous": 1, "challenger": 3}, ("reject", "completed", 3, 2), "rejected")
BACK = ({"champion": 1}, ("rollback", "completed", 1, 2), None)
CASES = [
    ("promoted", "entry intent", UNDONE),
    ("promoted", "alias champion", VOID),
    ("promoted", "alias previous", DONE),
    ("promoted", "version tags", DONE),
    ("promoted", "entry completed", DONE),
    ("rejected", "entry intent", UNDONE),
    ("rejected", "alias challenger", REJECTED),
    ("rejected", "version tags", REJECTED),
    ("rejected", "entry completed", REJECTED),
    ("rollback", "alias champion", ({"champion": 2, "previous": 1}, ("rollback", "superseded", 1, 2), None)),
    ("rollback", "alias previous", BACK),
    ("rollback", "version tags", BACK),
    ("rollback", "entry completed", BACK),
]


@pytest.fixture(scope="module")
def died(blank_database, tmp_path_factory, run_dying):
    """One record with a task for each case, whose process has died."""
    home = tmp_path_factory.mktemp("died")
    shutil.copy(blank_database, home / "mlflow.db")
    store = Store.connect(Addresses(f"sqlite:///{home / 'mlflow.db'}", None, None, home))
    works = [{"name": f"task-{i}", "action": action, "step": step} for i, (action, step, _) in enumerate(CASES)]
    for work in works:
        _task(store, work["name"])
    assert run_dying(store, works) == [9] * len(CASES)
    assert len(tickets(store)) == len(CASES)  # as the dead left them
    return store


@pytest.mark.xdist_group(name="died")
@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{action} before {step}" for action, step, _ in CASES])
def test_whatever_step_a_process_dies_before_a_repair_completes_or_voids_it(died, number):
    store = died
    name, (expected_aliases, expected_entry, outcome) = f"task-{number}", CASES[number][2]
    assert task_state(store, name).moved_by_hand is None
    written = repair(store, name)
    assert [e.status for e in written] == ([] if expected_entry == UNDONE[1] else [expected_entry[1]])
    assert aliases(store, name) == expected_aliases
    assert summary(history(store, name))[-1] == expected_entry
    assert get(store, name, 3).tags.get(tags.OUTCOME) == outcome
    assert (tags.WITHDRAWN in get(store, name, 2).tags) == (expected_entry == BACK[1])
    assert repair(store, name) == []
    # And the task goes on.
    champion = expected_aliases["champion"]
    decide(store, name, 3 if champion != 3 else 2, champion)
    assert aliases(store, name) == {"champion": 3 if champion != 3 else 2, "previous": champion}


@pytest.mark.xdist_group(name="died")
def test_tickets_of_the_dead_are_cleared(died):
    clear_dead_tickets(died)
    assert tickets(died) == []


def test_a_prune_that_died_halfway_says_what_it_really_deleted(store, name, run_dying):
    _task(store, name)
    decide(store, name, 3, 2)
    add_versions(store, name, 2, **{tags.OUTCOME: "rejected"})
    assert run_dying(store, [{"name": name, "action": "prune", "step": "delete version 4"}]) == [9]
    (entry,) = repair(store, name)
    assert (entry.action, entry.status, entry.deleted) == ("prune", "completed", (5,))
    assert [v.version for v in list_versions(store, name)] == [4, 3, 2, 1]


def test_a_champion_that_a_person_moved_is_said_and_written_down(store, name):
    _task(store, name)
    assert task_state(store, name).moved_by_hand is None
    store.client.set_registered_model_alias(name, tags.CHAMPION, "3")
    assert task_state(store, name).moved_by_hand == "champion was moved by hand: it is version 3, the ledger has version 2"
    (entry,) = repair(store, name)
    assert (entry.action, entry.status, entry.by, entry.candidate, entry.previous_champion) == (
        "moved by hand",
        "completed",
        "unknown",
        3,
        2,
    )
    assert "version 3, the ledger has version 2" in entry.reason
    assert aliases(store, name)[tags.CHAMPION] == 3  # obeyed
    assert task_state(store, name).moved_by_hand is None
    store.client.delete_registered_model_alias(name, tags.CHAMPION)
    (entry,) = repair(store, name)
    assert (entry.candidate, entry.previous_champion) == (None, 3)


def test_a_clock_that_is_behind_does_not_change_the_order_of_entries(store, name):
    _task(store, name)
    _, second = history(store, name)
    ahead = second.key.replace(second.key[len(tags.LEDGER_PREFIX) :][:4], "2999")
    store.client.set_registered_model_tag(name, ahead, store.client.get_registered_model(name).tags[second.key])
    store.client.delete_registered_model_tag(name, second.key)
    decide(store, name, 3, 2)
    assert [e.candidate for e in history(store, name)] == [1, 2, 3]
    assert task_state(store, name).moved_by_hand is None


def test_a_run_whose_process_was_killed_is_ended_by_the_next_run_of_the_task(store, name):
    experiment = experiment_id(store, name)
    ended = subprocess.Popen(["true"])
    ended.wait()
    this = json.loads(processes.this_process())
    dead = json.dumps({**this, "pid": ended.pid, "started": "1"})
    elsewhere = json.dumps({**this, "machine": "another", "pid": ended.pid})
    killed = start_run(store, experiment, "killed", {tags.PROCESS: dead})
    far = start_run(store, experiment, "far away", {tags.PROCESS: elsewhere})
    unknown = start_run(store, experiment, "unknown", {tags.PROCESS: "?"})
    mine = start_run(store, experiment, "mine", {})
    states = {run: store.client.get_run(run).info.status for run in (killed, far, unknown, mine)}
    assert states == {killed: "KILLED", far: "RUNNING", unknown: "RUNNING", mine: "RUNNING"}
    other = start_run(store, experiment, "killed too", {tags.PROCESS: dead})
    assert other in end_all_killed_runs(store)
    assert store.client.get_run(mine).info.status == "RUNNING"
