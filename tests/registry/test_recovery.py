"""A process that dies at any step of a decision leaves something that the next decision, or a repair, brings in order."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from softprompt_core.errors import Outcome
from softprompt_core.registry import (
    Evidence,
    aliases,
    connect,
    end_all_killed_runs,
    experiment_id,
    get,
    history,
    list_versions,
    record_decision,
    repair,
    standing,
    start_run,
    tags,
)
from softprompt_core.registry.turns import clear_dead_tickets, tickets

HERE = Path(__file__).parent
EVIDENCE = Evidence("0" * 32, "f" * 64)


def _task(client, stores, name):
    """Versions 1 to 3; 1 was champion, 2 is."""
    client.create_registered_model(name)
    for _ in range(3):
        client.create_model_version(name, "s3://nowhere/model", tags={tags.STATUS: tags.REGISTERED})
    for version, before in ((1, None), (2, 1)):
        _decide(client, stores, name, version, before)


def _decide(client, stores, name, version, expected, outcome=Outcome.PROMOTED):
    return record_decision(
        client,
        stores,
        name=name,
        version=version,
        expected_champion=expected,
        outcome=outcome,
        by="ann",
        reason="gates",
        evidence=EVIDENCE,
    )


def _last(client, name):
    entry = history(client, name)[-1]
    return entry.action, entry.status, entry.candidate, entry.previous_champion


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
def died(blank_database, tmp_path_factory):
    """One record with a task for each case, whose process has died."""
    import shutil

    from softprompt_core.registry import Stores

    home = tmp_path_factory.mktemp("died")
    shutil.copy(blank_database, home / "mlflow.db")
    stores = Stores(f"sqlite:///{home / 'mlflow.db'}", None, None, home)
    client = connect(stores)
    works = [{"name": f"task-{i}", "action": action, "step": step} for i, (action, step, _) in enumerate(CASES)]
    for work in works:
        _task(client, stores, work["name"])
    done = subprocess.run(
        [sys.executable, str(HERE / "dying.py"), stores.tracking_uri, str(home), json.dumps(works)],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [9] * len(CASES), done.stderr
    assert len(tickets(client)) == len(CASES)  # as the dead left them
    return stores, client


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{action} before {step}" for action, step, _ in CASES])
def test_whatever_step_a_process_dies_before_a_repair_completes_or_voids_it(died, number):
    stores, client = died
    name, (wanted_aliases, wanted_entry, outcome) = f"task-{number}", CASES[number][2]
    assert standing(client, name).moved_by_hand is None
    written = repair(client, stores, name)
    assert [e.status for e in written] == ([] if wanted_entry == UNDONE[1] else [wanted_entry[1]])
    assert aliases(client, name) == wanted_aliases
    assert _last(client, name) == wanted_entry
    assert get(client, name, 3).tags.get(tags.OUTCOME) == outcome
    assert (tags.WITHDRAWN in get(client, name, 2).tags) == (wanted_entry == BACK[1])
    assert repair(client, stores, name) == []
    # And the task goes on.
    champion = wanted_aliases["champion"]
    _decide(client, stores, name, 3 if champion != 3 else 2, champion)
    assert aliases(client, name) == {"champion": 3 if champion != 3 else 2, "previous": champion}


def test_tickets_of_the_dead_are_cleared(died):
    _, client = died
    clear_dead_tickets(client)
    assert tickets(client) == []


def test_a_prune_that_died_halfway_says_what_it_really_deleted(client, stores, name):
    _task(client, stores, name)
    _decide(client, stores, name, 3, 2)
    for _ in range(2):
        made = client.create_model_version(
            name, "s3://nowhere/model", tags={tags.STATUS: tags.REGISTERED, tags.OUTCOME: "rejected"}
        )
    work = [{"name": name, "action": "prune", "step": "delete version 4"}]
    done = subprocess.run(
        [sys.executable, str(HERE / "dying.py"), stores.tracking_uri, str(stores.home), json.dumps(work)],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
    )
    assert json.loads(done.stdout) == [9], done.stderr
    assert made.version == "5" or made.version == 5
    (entry,) = repair(client, stores, name)
    assert (entry.action, entry.status, entry.deleted) == ("prune", "completed", (5,))
    assert [v.version for v in list_versions(client, name)] == [4, 3, 2, 1]


def test_a_champion_that_a_person_moved_is_said_and_written_down(client, stores, name):
    _task(client, stores, name)
    assert standing(client, name).moved_by_hand is None
    client.set_registered_model_alias(name, tags.CHAMPION, "3")
    assert standing(client, name).moved_by_hand == "champion was moved by hand: it is version 3, the ledger has version 2"
    (entry,) = repair(client, stores, name)
    assert (entry.action, entry.status, entry.by, entry.candidate, entry.previous_champion) == (
        "moved by hand",
        "completed",
        "unknown",
        3,
        2,
    )
    assert "version 3, the ledger has version 2" in entry.reason
    assert aliases(client, name)[tags.CHAMPION] == 3  # obeyed
    assert standing(client, name).moved_by_hand is None
    client.delete_registered_model_alias(name, tags.CHAMPION)
    (entry,) = repair(client, stores, name)
    assert (entry.candidate, entry.previous_champion) == (None, 3)


def test_a_clock_that_is_behind_does_not_change_the_order_of_entries(client, stores, name):
    _task(client, stores, name)
    _, second = history(client, name)
    ahead = second.key.replace(second.key[len(tags.LEDGER_PREFIX) :][:4], "2999")
    client.set_registered_model_tag(name, ahead, client.get_registered_model(name).tags[second.key])
    client.delete_registered_model_tag(name, second.key)
    _decide(client, stores, name, 3, 2)
    assert [e.candidate for e in history(client, name)] == [1, 2, 3]
    assert standing(client, name).moved_by_hand is None


def test_a_run_whose_process_was_killed_is_ended_by_the_next_run_of_the_task(client, stores, name):
    experiment = experiment_id(client, name, stores)
    ended = subprocess.Popen(["true"])
    from softprompt_core.registry import processes

    told = json.loads(processes.me())
    # A number and a start time that nobody has: Popen's child has ended, and this process began at another moment.
    ended.wait()
    dead = json.dumps({**told, "pid": ended.pid, "started": "1"})
    elsewhere = json.dumps({**told, "machine": "another", "pid": ended.pid})
    killed = start_run(client, experiment, "killed", {tags.PROCESS: dead})
    far = start_run(client, experiment, "far away", {tags.PROCESS: elsewhere})
    unknown = start_run(client, experiment, "unknown", {tags.PROCESS: "?"})
    mine = start_run(client, experiment, "mine", {})
    states = {run: client.get_run(run).info.status for run in (killed, far, unknown, mine)}
    assert states == {killed: "KILLED", far: "RUNNING", unknown: "RUNNING", mine: "RUNNING"}
    other = start_run(client, experiment, "killed too", {tags.PROCESS: dead})
    assert other in end_all_killed_runs(client)
    assert client.get_run(mine).info.status == "RUNNING"
