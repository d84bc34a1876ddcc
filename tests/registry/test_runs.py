import json
import math
import threading

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt_core.errors import Outcome
from softprompt_core.registry import (
    connect,
    experiment_id,
    finish,
    log_figure,
    log_json,
    log_metrics,
    log_params,
    log_table,
    log_text,
    read_json,
    start_run,
    tags,
)
from softprompt_core.registry.runs import legal_name, log_rows
from softprompt_core.registry.spool import Row


def _read(client, run_id, file, tmp_path):
    from pathlib import Path

    return Path(client.download_artifacts(run_id, file, str(tmp_path))).read_text(encoding="utf-8")


def test_one_experiment_a_task(client, stores, name):
    first = experiment_id(client, name, stores)
    assert experiment_id(client, name, stores) == first
    assert client.get_experiment(first).name == f"softprompt/{name}"


def test_a_task_whose_experiment_was_deleted_runs_again(client, stores, name):
    first = experiment_id(client, name, stores)
    client.delete_experiment(first)
    assert experiment_id(client, name, stores) == first
    start_run(client, first, "works", {})


def test_threads_that_make_an_experiment_together_get_the_same_one(sqlite_stores, name):
    client = connect(sqlite_stores)
    found = []
    threads = [threading.Thread(target=lambda: found.append(experiment_id(client, name, sqlite_stores))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1


def test_files_of_a_local_record_lie_under_home(sqlite_stores, name, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    client = connect(sqlite_stores)
    run_id = start_run(client, experiment_id(client, name, sqlite_stores), "r", {})
    log_text(client, run_id, "hello", "note.txt")
    assert list((sqlite_stores.home / "artifacts" / name).rglob("note.txt"))
    assert not list(elsewhere.iterdir())


def test_a_child_run_knows_its_parent_and_long_or_absent_tags_do_no_harm(client, stores, name, run_id):
    experiment = experiment_id(client, name, stores)
    child = start_run(client, experiment, "seed 1", {tags.TASK: name, tags.GIT_COMMIT: None, "long": "x" * 20_000}, run_id)
    run = client.get_run(child)
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
def test_a_finished_run_says_its_outcome(outcome, status, sqlite_stores, name):
    client = connect(sqlite_stores)
    run_id = start_run(client, experiment_id(client, name, sqlite_stores), "r", {})
    finish(client, run_id, outcome, "It went so. " + "x" * 10_000)
    run = client.get_run(run_id)
    assert run.info.status == status
    assert run.data.tags[tags.OUTCOME] == outcome.value
    assert run.data.tags["mlflow.note.content"].startswith("It went so.")


def test_a_history_longer_than_one_request_arrives_whole(client, run_id):
    rows = [Row(1000 + s, s, {"train/loss": 1 / (s + 1), **({"eval/loss": s} if s % 2 else {})}) for s in range(1100)]
    for _ in range(2):  # an answer was lost, so they are sent again
        log_rows(client, run_id, rows)
    assert len(client.get_metric_history(run_id, "train/loss")) == 1100
    train = {m.step: m.value for m in client.get_metric_history(run_id, "train/loss")}
    assert train == {s: 1 / (s + 1) for s in range(1100)}
    assert [m.step for m in client.get_metric_history(run_id, "eval/loss")] == list(range(1, 1100, 2))


def test_metrics_named_by_awkward_labels_are_kept_apart(client, run_id):
    values = {"f1/c++": 0.1, "f1/c##": 0.2, "f1/.": 0.3, "f1/été à": 0.4, "f1//x": 0.5, "f1/n.a": math.nan, "f1/none": None}
    log_metrics(client, run_id, values, step=7)
    found = client.get_run(run_id).data.metrics
    assert len(found) == 6
    assert [found[legal_name(key)] for key in list(values)[:5]] == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert math.isnan(found["f1/n.a"])
    assert client.get_metric_history(run_id, "f1/n.a")[0].step == 7


def test_more_than_a_hundred_params_and_long_ones_are_logged(client, run_id):
    log_params(client, run_id, {**{f"p{i}": i for i in range(150)}, "text": "y" * 9000, "none": None})
    found = client.get_run(run_id).data.params
    assert len(found) == 151
    assert found["p149"] == "149"
    assert found["text"].endswith("…")


def test_text_and_json_come_back_as_written(client, run_id, tmp_path):
    log_text(client, run_id, "häagen\n", "notes/a.md")
    log_json(client, run_id, {"a": [1, None, "ü"]}, "reports/gates.json")
    assert _read(client, run_id, "notes/a.md", tmp_path) == "häagen\n"
    assert json.loads(_read(client, run_id, "reports/gates.json", tmp_path)) == {"a": [1, None, "ü"]}
    with pytest.raises(ValueError, match="JSON"):
        log_json(client, run_id, {"a": math.nan}, "bad.json")


def test_a_table_logged_twice_is_the_same_table(client, run_id, process_wide):
    frame = pd.DataFrame({"id": ["test/1", "test/2"], "text": ["ü", "b"], "loss": [0.5, None]})
    for _ in range(2):
        log_table(client, run_id, frame, "predictions.json")
    loaded = client.load_table(client.get_run(run_id).info.experiment_id, "predictions.json", run_ids=[run_id])
    pd.testing.assert_frame_equal(loaded, frame, check_dtype=False)
    assert json.loads(client.get_run(run_id).data.tags["mlflow.loggedArtifacts"]) == [
        {"path": "predictions.json", "type": "table"}
    ]


def test_a_figure_is_an_image_among_the_artifacts(client, run_id):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1])
    log_figure(client, run_id, figure, "figures/loss.png")
    assert [f.path for f in client.list_artifacts(run_id, "figures")] == ["figures/loss.png"]


def test_logging_from_threads_opens_no_orphan_run(client, stores, name, run_id):
    threads = [threading.Thread(target=log_metrics, args=(client, run_id, {f"train/loss{i}": i})) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runs = client.search_runs([experiment_id(client, name, stores)])
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


def test_json_is_read_back_and_what_is_not_there_is_none(client, run_id: str) -> None:
    log_json(client, run_id, {"ü": [1, None]}, "folder/value.json")
    assert read_json(client, run_id, "folder/value.json") == {"ü": [1, None]}
    assert read_json(client, run_id, "folder/other.json") is None
    assert read_json(client, run_id, "nowhere/value.json") is None
    assert read_json(client, "0" * 32, "folder/value.json") is None
