import json
import math
import threading
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt_core.errors import Outcome
from softprompt_core.store import tags
from softprompt_core.store.metric_buffer import MetricRow
from softprompt_core.store.run_contents import (
    legal_name,
    log_figure,
    log_json,
    log_metrics,
    log_params,
    log_rows,
    log_table,
    log_text,
    read_json,
)
from softprompt_core.store.runs import experiment_id, finish, start_run
from tests.store.transports import on_sqlite_and_server


def _read(store, run_id, file, tmp_path):
    return Path(store.client.download_artifacts(run_id, file, str(tmp_path))).read_text(encoding="utf-8")


def test_one_experiment_a_task(store, name):
    first = experiment_id(store, name)
    assert experiment_id(store, name) == first
    assert store.client.get_experiment(first).name == f"softprompt/{name}"


@on_sqlite_and_server
def test_a_task_whose_experiment_was_deleted_runs_again(store, name):
    first = experiment_id(store, name)
    store.client.delete_experiment(first)
    assert experiment_id(store, name) == first
    start_run(store, first, "works", {})


def test_threads_that_make_an_experiment_together_get_the_same_one(store, name):
    ids = []
    threads = [threading.Thread(target=lambda: ids.append(experiment_id(store, name))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 6
    assert len(set(ids)) == 1


def test_files_of_a_local_record_lie_under_home(store, name, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    run_id = start_run(store, experiment_id(store, name), "r", {})
    log_text(store, run_id, "hello", "note.txt")
    assert list((store.home / "artifacts" / name).rglob("note.txt"))
    assert not list(elsewhere.iterdir())


@on_sqlite_and_server
def test_a_child_run_knows_its_parent_and_long_or_absent_tags_do_no_harm(store, name, run_id):
    experiment = experiment_id(store, name)
    child = start_run(store, experiment, "seed 1", {tags.TASK: name, tags.GIT_COMMIT: None, "long": "x" * 20_000}, run_id)
    run = store.client.get_run(child)
    assert run.data.tags["mlflow.parentRunId"] == run_id
    assert run.data.tags[tags.TASK] == name
    assert tags.GIT_COMMIT not in run.data.tags
    assert run.data.tags["long"] == "x" * 7999 + "…"
    assert run.info.run_name == "seed 1"


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome.PROMOTED, "FINISHED"),
        (Outcome.UNCHANGED, "FINISHED"),
        (Outcome.REJECTED, "FINISHED"),
        (Outcome.AWAITING_APPROVAL, "FINISHED"),
        (Outcome.INVALID, "FAILED"),
        (Outcome.DIVERGED, "FAILED"),
        (Outcome.UNAVAILABLE, "FAILED"),
    ],
)
def test_a_finished_run_says_its_outcome(outcome, status, store, name):
    run_id = start_run(store, experiment_id(store, name), "r", {})
    finish(store, run_id, outcome, "It went so. " + "x" * 10_000)
    run = store.client.get_run(run_id)
    assert run.info.status == status
    assert run.data.tags[tags.OUTCOME] == outcome.value
    assert run.data.tags["mlflow.note.content"].startswith("It went so.")
    assert run.info.run_name == outcome.value.replace("_", " ")
    finish(store, run_id, outcome, "It went so.", "v3 rejected 0.637")
    assert store.client.get_run(run_id).info.run_name == store.reader.run(run_id).name == "v3 rejected 0.637"


@on_sqlite_and_server
def test_a_history_longer_than_one_request_arrives_whole(store, run_id):
    values = [{"train/loss": 1 / (s + 1), **({"eval/loss": s} if s % 2 else {})} for s in range(1100)]
    rows = [MetricRow(at_ms=1000 + step, step=step, values=value) for step, value in enumerate(values)]
    for _ in range(2):  # an answer was lost, so they are sent again
        log_rows(store, run_id, rows)
    assert len(store.client.get_metric_history(run_id, "train/loss")) == 1100
    train = {m.step: m.value for m in store.client.get_metric_history(run_id, "train/loss")}
    assert train == {s: 1 / (s + 1) for s in range(1100)}
    assert [m.step for m in store.client.get_metric_history(run_id, "eval/loss")] == list(range(1, 1100, 2))


@on_sqlite_and_server
def test_metrics_named_by_awkward_labels_are_kept_apart(store, run_id):
    values = {"f1/c++": 0.1, "f1/c##": 0.2, "f1/.": 0.3, "f1/été à": 0.4, "f1//x": 0.5, "f1/n.a": math.nan, "f1/none": None}
    log_metrics(store, run_id, values, step=7)
    logged = store.client.get_run(run_id).data.metrics
    assert len(logged) == 6
    assert [logged[legal_name(key)] for key in list(values)[:5]] == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert math.isnan(logged["f1/n.a"])
    assert store.client.get_metric_history(run_id, "f1/n.a")[0].step == 7


@on_sqlite_and_server
def test_more_than_a_hundred_params_and_long_ones_are_logged(store, run_id):
    log_params(store, run_id, {**{f"p{i}": i for i in range(150)}, "text": "y" * 9000, "none": None})
    logged = store.client.get_run(run_id).data.params
    assert len(logged) == 151
    assert logged["p149"] == "149"
    assert logged["text"].endswith("…")


def test_text_and_json_come_back_as_written(store, run_id, tmp_path):
    log_text(store, run_id, "häagen\n", "notes/a.md")
    log_json(store, run_id, {"a": [1, None, "ü"]}, "reports/gates.json")
    assert _read(store, run_id, "notes/a.md", tmp_path) == "häagen\n"
    assert json.loads(_read(store, run_id, "reports/gates.json", tmp_path)) == {"a": [1, None, "ü"]}
    with pytest.raises(ValueError, match="JSON"):
        log_json(store, run_id, {"a": math.nan}, "bad.json")


def test_a_table_logged_twice_is_the_same_table(store, run_id, process_wide):
    frame = pd.DataFrame({"id": ["test/1", "test/2"], "text": ["ü", "b"], "loss": [0.5, None]})
    for _ in range(2):
        log_table(store, run_id, frame, "predictions.json")
    loaded = store.client.load_table(store.client.get_run(run_id).info.experiment_id, "predictions.json", run_ids=[run_id])
    pd.testing.assert_frame_equal(loaded, frame, check_dtype=False)
    assert json.loads(store.client.get_run(run_id).data.tags["mlflow.loggedArtifacts"]) == [
        {"path": "predictions.json", "type": "table"}
    ]


def test_a_figure_is_an_image_among_the_artifacts(store, run_id):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1])
    log_figure(store, run_id, figure, "figures/loss.png")
    assert [f.path for f in store.client.list_artifacts(run_id, "figures")] == ["figures/loss.png"]


def test_logging_from_threads_opens_no_orphan_run(store, name, run_id):
    threads = [threading.Thread(target=log_metrics, args=(store, run_id, {f"train/loss{i}": i})) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runs = store.client.search_runs([experiment_id(store, name)])
    assert [run.info.run_id for run in runs] == [run_id]
    assert len(runs[0].data.metrics) == 4


@settings(deadline=None)  # the first call imports a library
@given(st.text(max_size=300))
def test_every_label_makes_a_metric_name_that_mlflow_accepts(label: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    _validate_metric_name(legal_name(f"f1/{label}"))


def test_legal_names_stay_and_changed_names_stay_apart() -> None:
    assert legal_name("f1/very good") == "f1/very good"
    names = ["f1/a!", "f1/a?", "f1/a_", "f1/..", "f1/.", "f1/", "f1/" + "x" * 300, "f1/" + "x" * 301]
    assert len({legal_name(name) for name in names}) == len(names)


@on_sqlite_and_server
def test_json_is_read_back_and_what_is_not_there_is_none(store, run_id: str) -> None:
    log_json(store, run_id, {"ü": [1, None]}, "folder/value.json")
    assert read_json(store, run_id, "folder/value.json") == {"ü": [1, None]}
    assert read_json(store, run_id, "folder/other.json") is None
    assert read_json(store, run_id, "nowhere/value.json") is None
    assert read_json(store, "0" * 32, "folder/value.json") is None
