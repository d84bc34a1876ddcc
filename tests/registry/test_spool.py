"""What waits for MLflow in files: nothing is lost, and nothing arrives twice, whoever delivers it and however often."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from softprompt_core.errors import Outcome, Unavailable
from softprompt_core.registry import (
    Spool,
    Stores,
    close,
    deliver,
    deliver_all,
    deliver_within,
    ending,
    experiment_id,
    processes,
    spools,
    start_run,
    tags,
)


@pytest.fixture
def run(client, stores: Stores, name: str) -> str:
    return start_run(client, experiment_id(client, name, stores), "a run", {tags.TASK: name})


def steps(client, run: str, key: str = "train/loss") -> list[int]:
    return [one.step for one in client.get_metric_history(run, key)]


def away(stores: Stores):
    """A client of a server that does not answer."""
    from mlflow import MlflowClient

    return MlflowClient("http://127.0.0.1:9", "http://127.0.0.1:9")


def test_rows_of_a_step_that_comes_again_after_a_resume_are_there_once(client, stores, run, name):
    first = Spool(stores, run, name)
    for step in (0, 10, 20):
        first.add(step, {"train/loss": 1.0 / (step + 1), "none": None})
    assert deliver(client, first) == 3 and deliver(client, first) == 0
    resumed = Spool(stores, run, name)  # another process, from the checkpoint of step 10
    for step in (0, 10, 20, 30):
        resumed.add(step, {"train/loss": 1.0 / (step + 1), "validation/loss": 1.0})
    assert deliver(client, resumed) == 4  # the second key of the old steps is new
    assert steps(client, run) == [0, 10, 20, 30] == steps(client, run, "validation/loss")


def test_a_lost_answer_or_note_leads_to_no_duplicates(client, stores, run, name):
    spool = Spool(stores, run, name)
    spool.add(10, {"train/loss": 0.5})
    deliver(client, spool)
    (note,) = (stores.home / "spool").glob("*.json")
    note.unlink()
    spool.add(20, {"train/loss": 0.4})
    assert deliver(client, Spool(stores, run)) == 2
    assert steps(client, run) == [10, 20]


def test_a_store_that_is_away_is_noted_and_the_next_run_delivers_rows_and_end(client, stores, run, name, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    spool = Spool(stores, run, name)
    spool.add(10, {"train/loss": 0.5})
    with pytest.raises(Unavailable, match="has not answered for 0 s; the training is kept, and 1 rows"):
        deliver_within(away(stores), stores, spool, 0)
    assert not close(away(stores), stores, run, name, ending(Outcome.UNAVAILABLE, "It went so."))
    (left,) = spools(stores)
    assert (left.task, left.why, left.since is not None, left.left()) == (name, "connection refused", True, True)
    assert deliver_all(client, stores) == {run: 1}
    found = client.get_run(run)
    assert (found.info.status, found.data.tags[tags.OUTCOME]) == ("FAILED", "unavailable")
    assert steps(client, run) == [10] and spools(stores) == []


def test_an_end_that_comes_late_does_not_change_how_a_run_ended(client, stores, run, name):
    Spool(stores, run, name).end(ending(Outcome.UNAVAILABLE, "late"))
    client.set_terminated(run, "KILLED")
    deliver_all(client, stores)
    assert client.get_run(run).info.status == "KILLED" and spools(stores) == []


def test_what_a_dead_process_left_is_delivered_up_to_its_last_whole_line(client, stores, run, name):
    spool = Spool(stores, run, name)
    spool.add(10, {"train/loss": 0.5})
    ended = subprocess.Popen(["true"])
    ended.wait()
    dead = json.dumps({**json.loads(processes.me()), "pid": ended.pid, "started": "1"})
    head, *rest = spool.path.read_text().splitlines()
    spool.path.write_text("\n".join([json.dumps({**json.loads(head), "process": dead}), *rest, '{"at": 1, "step": 20, "val']))
    assert deliver_all(client, stores) == {run: 1}
    assert steps(client, run) == [10] and spools(stores) == []


def test_rows_of_a_run_that_was_deleted_are_dropped_and_those_of_another_record_stay(client, stores, run, name):
    Spool(stores, run, name).add(10, {"train/loss": 0.5})
    elsewhere = replace(stores, tracking_uri="http://mlflow.example")
    Spool(elsewhere, "0" * 32, name).add(10, {"train/loss": 0.5})
    client.delete_run(run)
    assert deliver_all(client, stores) == {run: 0}
    assert spools(stores) == [] and len(spools(elsewhere)) == 1


def test_a_full_disk_leaves_no_half_row(stores, tmp_path: Path, monkeypatch):
    spool = Spool(stores, "1" * 32, "toy")
    spool.add(0, {"train/loss": 0.5})
    size = spool.path.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
        with pytest.raises(OSError):
            spool.add(10, {"train/loss": 0.4})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert spool.path.stat().st_size == size
    spool.add(10, {"train/loss": 0.4})  # room again: the row is not taken for known
    assert [row.step for row in spool.waiting().rows] == [0, 10]
