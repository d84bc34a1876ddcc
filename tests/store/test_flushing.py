"""Metric buffers: nothing is lost, and nothing arrives twice, whichever process sends it and however often."""

from __future__ import annotations

import json
import math
import resource
import signal
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from softprompt_core.errors import Outcome, Unavailable
from softprompt_core.store import processes, tags
from softprompt_core.store.connection import Store
from softprompt_core.store.flushing import BufferFlusher, close, close_open_runs, flush, flush_all, flush_within
from softprompt_core.store.metric_buffer import MetricBuffer, buffers
from softprompt_core.store.runs import ending, ending_of, experiment_id, open_runs, start_run
from tests.store.transports import on_sqlite_and_server


@pytest.fixture
def run(store: Store, name: str) -> str:
    return start_run(store, experiment_id(store, name), "a run", {tags.TASK: name})


def steps(store, run: str, key: str = "train/loss") -> list[int]:
    return [metric.step for metric in store.client.get_metric_history(run, key)]


def unreachable(store: Store) -> Store:
    """The same record, at a server that does not answer."""
    from mlflow import MlflowClient

    return Store(store.addresses, MlflowClient("http://127.0.0.1:9", "http://127.0.0.1:9"))


@on_sqlite_and_server
def test_rows_of_a_step_that_comes_again_after_a_resume_are_there_once(store, run, name):
    first = MetricBuffer(store.addresses, run, name)
    for step in (0, 10, 20):
        first.add(step, {"train/loss": 1.0 / (step + 1), "none": None})
    assert flush(store, first) == 3 and flush(store, first) == 0
    resumed = MetricBuffer(store.addresses, run, name)  # another process, from the checkpoint of step 10
    for step in (0, 10, 20, 30):
        resumed.add(step, {"train/loss": 1.0 / (step + 1), "validation/loss": 1.0})
    assert flush(store, resumed) == 4  # the second key of the old steps is new
    assert steps(store, run) == [0, 10, 20, 30] == steps(store, run, "validation/loss")


@on_sqlite_and_server
def test_a_lost_answer_or_note_leads_to_no_duplicates(store, run, name):
    buffer = MetricBuffer(store.addresses, run, name)
    buffer.add(10, {"train/loss": 0.5})
    flush(store, buffer)
    (note,) = (store.home / "spool").glob("*.json")
    note.unlink()
    buffer.add(20, {"train/loss": 0.4})
    assert flush(store, MetricBuffer(store.addresses, run)) == 2
    assert steps(store, run) == [10, 20]


def test_a_store_that_is_away_is_noted_and_the_next_run_delivers_rows_and_end(store, run, name, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    buffer = MetricBuffer(store.addresses, run, name)
    buffer.add(10, {"train/loss": 0.5})
    with pytest.raises(Unavailable, match="has not answered for 0 s; the training is kept, and 1 rows"):
        flush_within(unreachable(store), buffer, 0)
    assert not close(unreachable(store), run, name, ending(Outcome.UNAVAILABLE, "It went so."))
    (left,) = buffers(store.addresses)
    assert (left.task, left.failure, left.failing_since is not None, left.is_abandoned()) == (
        name,
        "connection refused",
        True,
        True,
    )
    assert flush_all(store) == {run: 1}
    ended = store.client.get_run(run)
    assert (ended.info.status, ended.data.tags[tags.OUTCOME]) == ("FAILED", "unavailable")
    assert steps(store, run) == [10] and buffers(store.addresses) == []


def test_an_end_that_comes_late_does_not_change_how_a_run_ended(store, run, name):
    MetricBuffer(store.addresses, run, name).end(ending(Outcome.UNAVAILABLE, "late"))
    store.client.set_terminated(run, "KILLED")
    flush_all(store)
    assert store.client.get_run(run).info.status == "KILLED" and buffers(store.addresses) == []


def test_what_a_dead_process_left_is_delivered_up_to_its_last_whole_line(store, run, name):
    buffer = MetricBuffer(store.addresses, run, name)
    buffer.add(10, {"train/loss": 0.5})
    ended = subprocess.Popen(["true"])
    ended.wait()
    dead = json.dumps({**json.loads(processes.this_process()), "pid": ended.pid, "started": "1"})
    head, *rest = buffer.path.read_text().splitlines()
    buffer.path.write_text("\n".join([json.dumps({**json.loads(head), "process": dead}), *rest, '{"at": 1, "step": 20, "val']))
    assert flush_all(store) == {run: 1}
    assert steps(store, run) == [10] and buffers(store.addresses) == []


@on_sqlite_and_server
def test_rows_of_a_run_that_was_deleted_are_dropped_and_those_of_another_record_stay(store, run, name):
    MetricBuffer(store.addresses, run, name).add(10, {"train/loss": 0.5})
    elsewhere = replace(store.addresses, tracking_uri="http://mlflow.example")
    MetricBuffer(elsewhere, "0" * 32, name).add(10, {"train/loss": 0.5})
    store.client.delete_run(run)
    assert flush_all(store) == {run: 0}
    assert buffers(store.addresses) == [] and len(buffers(elsewhere)) == 1


def test_a_full_disk_leaves_no_half_row(store):
    buffer = MetricBuffer(store.addresses, "1" * 32, "toy")
    buffer.add(0, {"train/loss": 0.5})
    size = buffer.path.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
        with pytest.raises(OSError):
            buffer.add(10, {"train/loss": 0.4})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert buffer.path.stat().st_size == size
    buffer.add(10, {"train/loss": 0.4})  # room again: the row is not taken for known
    assert [row.step for row in buffer.pending().rows] == [0, 10]


def test_rows_are_sent_while_a_block_lasts_and_an_unreachable_store_does_it_no_harm(store, run, name, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    reachable, failing = MetricBuffer(store.addresses, run, name), MetricBuffer(store.addresses, "1" * 32, name)
    reachable.add(10, {"train/loss": math.nan})
    failing.add(10, {"train/loss": 0.5})
    deadline = time.monotonic() + 30
    with BufferFlusher(store, [reachable], interval_s=0.01), BufferFlusher(unreachable(store), [failing], interval_s=0.01):
        while reachable.pending() or not failing.failure:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    (metric,) = store.client.get_metric_history(run, "train/loss")
    assert math.isnan(metric.value)
    assert len(failing.pending().rows) == 1


def test_a_file_of_the_release_before_is_sent(store, run, name):
    folder = store.home / "spool"
    folder.mkdir()
    lines = [
        {"run": run, "task": name, "store": store.addresses.masked_tracking_uri, "process": "?"},
        {"at": 1700000000000, "step": 10, "values": {"train/loss": 0.5}},
        {"at": 1700000001000, "step": 20, "values": {"train/loss": 0.25}},
        {"status": "FAILED", "tags": {tags.OUTCOME: "unavailable"}},
    ]
    text = [json.dumps(line) + "\n" for line in lines]
    (folder / f"{run}.jsonl").write_text("".join(text))
    sent = len("".join(text[:2]).encode())
    (folder / f"{run}.json").write_text(json.dumps({"delivered": sent, "since": "2026-02-03T04:05:06+00:00", "why": "refused"}))
    (buffer,) = buffers(store.addresses)
    assert (buffer.task, buffer.failure, buffer.failing_since) == (name, "refused", datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC))
    assert flush_all(store) == {run: 1}
    assert steps(store, run) == [20]
    assert store.client.get_run(run).info.status == "FAILED" and list(folder.iterdir()) == []


@pytest.mark.parametrize(("error", "words"), [(KeyboardInterrupt(), "SIGINT"), (SystemExit(1), "SystemExit")])
@on_sqlite_and_server
def test_a_process_that_is_stopped_ends_what_it_has_open_with_its_metrics_and_nothing_else(store, run, name, error, words):
    decided = start_run(store, experiment_id(store, name), "another", {tags.TASK: name})
    assert close(store, decided, name, ending(Outcome.PROMOTED, "It is better."))
    MetricBuffer(store.addresses, run, name).add(10, {"train/loss": 0.5})
    assert run in open_runs() and decided not in open_runs()
    close_open_runs(ending_of(error))
    stopped, kept = store.client.get_run(run), store.client.get_run(decided)
    assert (stopped.info.status, kept.info.status) == ("KILLED", "FINISHED")
    assert f"by {words}" in stopped.data.tags["mlflow.note.content"] and steps(store, run) == [10]
    assert run not in open_runs() and ending_of(ValueError()).status == "FAILED"
