"""The data report and the folder of prepared data: exact round trips, and a page that a reviewer can read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from softprompt_core.data import DataReport, TaskData, load_task_data, prepare, report_markdown, save_task_data
from softprompt_core.data.report import WORD_BINS, word_histogram
from softprompt_core.errors import InvalidInput


@pytest.fixture
def data(spec: Callable[..., Any]) -> TaskData:
    train = pd.DataFrame({"text": [f"row {i}\u2028ü|" for i in range(40)], "label": ["a|b", "c\nd"] * 20})
    extra = pd.DataFrame({"text": ["TEST 0", None, "twice", "twice", "same", "same"], "label": ["a|b"] * 5 + ["c\nd"]})
    test = pd.DataFrame({"text": [f"test {i}" for i in range(8)], "label": ["a|b", "c\nd"] * 4})
    sliced = spec(slices={"long": "len(text) > 5", "none": "len(text) > 1000"}, max_bad_rows=3)
    return prepare(sliced, {"train": pd.concat([train, extra]), "test": test})


def test_the_report_comes_back_equal_from_json(data: TaskData) -> None:
    report = data.report.with_token_lengths({s: [len(e.input) for e in rows] for s, rows in data.splits.items()}, 8)
    text = json.dumps(report.model_dump(mode="json"), allow_nan=False)
    assert DataReport.model_validate(json.loads(text)) == report
    assert report.bad_rows and report.leakage and report.duplicates and report.conflicts and report.splits["test"].tokens


def test_prepared_data_of_an_earlier_release_are_read_and_written_with_the_same_keys(tmp_path: Path) -> None:
    tokens = {"limit": 8, "mean": 2.5, "median": 2, "p95": 9, "longest": 9, "truncated": 1, "truncated_share": 0.5}
    split = {
        "rows_read": 3,
        "rows": 2,
        "classes": {"a": 2},
        "words": [2, 0, 0, 0, 0, 0, 0, 0],
        "slices": {"long": 0},
        "tokens": tokens,
    }
    report = {
        "splits": {"train": split, "validation": {**split, "rows_read": None, "tokens": None}, "test": split},
        "duplicates": [{"split": "train", "ids": ["train/0", "train/1"], "targets": ["a"]}],
        "conflicts": [],
        "leakage": [{"id": "train/2", "removed_from": "train", "stands_in": "test", "as_id": "test/0"}],
        "bad_rows": [{"id": "train/3", "place": "t.csv:5", "field": "text", "problem": "is empty"}],
        "warnings": ["No test row has the label 'b'."],
    }
    rest = {
        "labels": ["a", "b"],
        "fingerprint": "f" * 64,
        "report": report,
        "input_example": {"text": "x", "n": 1},
        "columns": ["text"],
    }
    (tmp_path / "data.json").write_text(json.dumps(rest))
    row = {"id": "train/0", "input": "x\u2028y", "target": "a", "slices": ["long", "short"]}
    for name in ("train", "validation", "test"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    data = load_task_data(tmp_path)
    assert (data.labels, data.report.bad_rows[0].place, data.splits["test"][0].input) == (("a", "b"), "t.csv:5", "x\u2028y")
    save_task_data(data, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "data.json").read_text()) == rest
    assert json.loads((tmp_path / "again" / "test.jsonl").read_text()) == row


def test_what_is_no_report_is_refused() -> None:
    with pytest.raises(ValueError):
        DataReport.model_validate({"splits": {}})


def test_the_page_names_everything_that_was_found(data: TaskData) -> None:
    page = report_markdown(data.report.with_token_lengths({"test": [3, 5, 9, 9]}, limit=8))
    first = page.splitlines()[0]
    assert first.endswith("8 test rows; 5 warnings.") and not first.startswith("#")
    assert "| train | 46 | 1 | 1 |" in page
    assert "| validation | made from train | 0 | 0 |" in page
    assert "| a\\|b |" in page and "| c d |" in page
    assert "train/40 from train: test/0 in test" in page
    assert "frame train, row 41 (train/41), `text`: is empty" in page
    assert "No test row is in the slice 'none'." in page
    assert "2 of 8 test inputs (50.0%) are longer than 8 tokens and are cut." in page
    assert "| test | 6.5 | 5 | 9 | 9 | 8 | 2 (50.0%) |" in page


def test_long_lists_are_cut_on_the_page_but_not_in_the_report(spec: Callable[..., Any]) -> None:
    rows = pd.DataFrame({"text": [f"row {i // 2}" for i in range(200)], "label": [i // 2 % 2 for i in range(200)]})
    report = prepare(spec(), rows).report
    assert len(report.duplicates) == 100
    assert report_markdown(report).count(" → ") == 10
    assert "… and 90 more" in report_markdown(report)


def test_token_lengths_make_a_new_report_and_replace_earlier_ones(data: TaskData) -> None:
    cut = data.report.with_token_lengths({"test": [3, 5, 9, 9]}, limit=8)
    assert data.report.splits["test"].tokens is None
    tokens = cut.splits["test"].tokens
    assert tokens is not None
    assert (tokens.truncated, tokens.truncated_share, tokens.longest, tokens.median, tokens.mean) == (2, 0.5, 9, 5, 6.5)
    assert cut.splits["train"].tokens is None
    assert len(cut.warnings) == len(data.report.warnings) + 1
    again = cut.with_token_lengths({"test": [3, 5, 9, 9]}, limit=9)
    assert again.warnings == data.report.warnings


def test_the_word_histogram_counts_each_text_once_and_ends_are_inclusive() -> None:
    assert word_histogram(" ".join(["w"] * n) for n in (1, 8, 9, 512, 513, 5000)) == (2, 1, 0, 0, 0, 0, 1, 2)
    assert len(WORD_BINS) + 1 == 8


def test_prepared_data_come_back_equal_from_plain_files(data: TaskData, tmp_path: Path) -> None:
    save_task_data(data, tmp_path / "deep" / "data")
    assert load_task_data(tmp_path / "deep" / "data") == data
    assert {path.name for path in (tmp_path / "deep" / "data").iterdir()} == {
        "train.jsonl",
        "validation.jsonl",
        "test.jsonl",
        "data.json",
    }


def test_saving_again_replaces_what_was_there(data: TaskData, tmp_path: Path, spec: Callable[..., Any]) -> None:
    save_task_data(data, tmp_path)
    small = prepare(spec(), pd.DataFrame({"text": [f"row {i}" for i in range(20)], "label": ["a", "b"] * 10}))
    save_task_data(small, tmp_path)
    assert load_task_data(tmp_path) == small


@pytest.mark.parametrize("broken", ["test.jsonl", "data.json"])
def test_a_missing_or_broken_file_of_prepared_data_is_refused(data: TaskData, tmp_path: Path, broken: str) -> None:
    save_task_data(data, tmp_path)
    (tmp_path / broken).write_text("{")
    with pytest.raises(InvalidInput, match="is not a folder of prepared data"):
        load_task_data(tmp_path)
    (tmp_path / broken).unlink()
    with pytest.raises(InvalidInput, match="is not a folder of prepared data"):
        load_task_data(tmp_path)


def balanced(a: int, b: int, split: str) -> pd.DataFrame:
    return pd.DataFrame({"text": [f"{split} {i}" for i in range(a + b)], "label": ["a"] * a + ["b"] * b})


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ((60, 140), "'a' has 50.0% of the train rows and 30.0% of the test rows"),
        ((200, 0), "'a' has 50.0% of the train rows and 100.0% of the test rows"),
        ((46, 54), None),  # a few points
        ((3, 7), None),  # a few rows
    ],
)
def test_classes_that_are_balanced_otherwise_in_test_are_a_warning(
    spec: Callable[..., Any], test: tuple[int, int], words: str | None
) -> None:
    data = prepare(spec(), {"train": balanced(200, 200, "train"), "test": balanced(*test, "test")})
    found = [warning for warning in data.report.warnings if "not balanced alike" in warning]
    assert len(found) == (words is not None) and all(str(words) in warning for warning in found)
