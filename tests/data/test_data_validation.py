"""Which rows are used, which are set aside or removed, and which data are refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from softprompt_core.data import TaskData, cell_problem, prepare, render
from softprompt_core.errors import InvalidInput
from softprompt_core.spec import PromptSpec

Spec = Callable[..., PromptSpec]


def frame(prefix: str, count: int = 10, labels: tuple[Any, ...] = ("a", "b")) -> pd.DataFrame:
    return pd.DataFrame(
        {"text": [f"{prefix} {i}" for i in range(count)], "label": [labels[i % len(labels)] for i in range(count)]}
    )


def splits(**changed: Any) -> dict[str, pd.DataFrame]:
    return {"train": frame("train"), "validation": frame("validation", 4), "test": frame("test", 6)} | changed


def with_row(base: pd.DataFrame, **row: Any) -> pd.DataFrame:
    return pd.concat([base.astype(object), pd.DataFrame([row], dtype=object)], ignore_index=True)


def refused(spec: PromptSpec, data: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        prepare(spec, data)
    assert caught.value.do
    return str(caught.value)


def inputs(data: TaskData, split: str) -> list[str]:
    return [example.input for example in data.splits[split]]


def test_given_splits_are_kept_row_by_row(spec: Spec) -> None:
    data = prepare(spec(), splits())
    assert [(e.id, e.input, e.target) for e in data.splits["test"][:2]] == [("test/0", "test 0", "a"), ("test/1", "test 1", "b")]
    assert [len(data.splits[s]) for s in ("train", "validation", "test")] == [10, 4, 6]
    assert data.labels == ("a", "b")
    assert data.report.warnings == ()


def test_columns_and_input_example_are_the_raw_cells_of_the_input_template(spec: Spec) -> None:
    rows = pd.DataFrame({"q": [f"q{i}" for i in range(20)], "n": range(20), "label": ["a", "b"] * 10})
    data = prepare(spec(input="{q} scored {n:03d}, {q}?"), rows)
    assert data.columns == ("q", "n")
    first = int(data.splits["train"][0].id.removeprefix("train/"))
    assert data.input_example == {"q": f"q{first}", "n": first}
    assert data.splits["train"][0].input == f"q{first} scored {first:03d}, q{first}?"


def test_generation_renders_the_target_template_and_has_no_labels(spec: Spec) -> None:
    rows = pd.DataFrame({"text": [f"t{i}" for i in range(20)], "summary": [f"s{i}" for i in range(20)]})
    data = prepare(spec(target={"template": "{summary}."}), rows)
    assert data.labels == ()
    assert all(e.target == e.input.replace("t", "s") + "." for split in data.splits.values() for e in split)


@pytest.mark.parametrize("value", ["", " \n\t", None, math.nan, math.inf, ["a"], {"a": 1}, b"a", "half \ud800"])
def test_such_a_field_makes_a_row_bad(spec: Spec, value: Any) -> None:
    data = splits(train=with_row(frame("train"), text=value, label="a"))
    assert "frame train, row 10 (train/10), `text`:" in refused(spec(), data)
    (bad,) = (prepared := prepare(spec(max_bad_rows=1), data)).report.bad_rows
    assert (bad.id, bad.field) == ("train/10", "text")
    assert len(prepared.splits["train"]) == 10
    assert prepared.report.splits["train"].rows_read == 11
    assert "1 row was set aside" in prepared.report.warnings[0]


@pytest.mark.parametrize(("value", "text"), [(7, "7"), (2.5, "2.5"), (np.int64(3), "3"), (0, "0"), ("NA", "NA"), ("ünï", "ünï")])
def test_numbers_and_any_text_are_rendered(spec: Spec, value: Any, text: str) -> None:
    assert inputs(prepare(spec(), splits(train=with_row(frame("train"), text=value, label="a"))), "train")[-1] == text


def test_a_format_that_does_not_fit_makes_a_row_bad(spec: Spec) -> None:
    rows = frame("row", 20).assign(n=[*range(19), "many"])
    assert "`n` does not fit the format `02d`" in refused(spec(input="{text} {n:02d}"), rows)


def test_more_bad_rows_than_allowed_shows_the_first_ten_with_file_and_line(spec: Spec, write_jsonl: Callable[..., str]) -> None:
    good = [{"text": f"row {i}", "label": "ab"[i % 2]} for i in range(20)]
    path = write_jsonl("train.jsonl", [*good, *[{"text": None, "label": "a"}] * 12])
    message = refused(spec({"train": path}, max_bad_rows=11), None)
    assert "12 rows cannot be used, data.max_bad_rows allows 11" in message
    assert f"{path}:21 (train/20), `text`: is empty" in message
    assert f"{path}:30 (train/29)" in message
    assert f"{path}:31" not in message
    assert "and 2 more" in message


def test_an_unknown_label_is_a_bad_row_that_lists_the_known_ones(spec: Spec) -> None:
    target = {"column": "label", "labels": {"a": "good", "b": "bad"}}
    message = refused(spec(target=target), splits(test=with_row(frame("test"), text="x", label="c")))
    assert "frame test, row 10 (test/10), `label`: unknown label 'c'; known: a, b" in message


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ((1, "1"), {"1": "yes", "0": "no"}),
        ((1.0, np.float32(1)), {1: "yes", 0: "no"}),
        ((np.int8(1), " 1 "), {1: "yes", 0: "no"}),
        ((True, "True"), {True: "yes", False: "no"}),
        (("true", np.True_), {"true": "yes", "false": "no"}),
        (("1.0", 1.0), {"1": "yes", "0": "no"}),
        ((1.0, 1), {"1.0": "yes", "0.0": "no"}),
        (("010", "010 "), {"010": "yes", "10": "no"}),
        (("1.10", "1.10"), {"1.10": "yes", "1.1": "no"}),
    ],
)
def test_label_values_are_compared_as_text(spec: Spec, values: tuple[Any, ...], labels: dict[Any, str]) -> None:
    other = next(k for k, word in labels.items() if word == "no")
    train = pd.DataFrame({"text": [f"row {i}" for i in range(20)], "label": pd.Series([*values, other, other] * 5, dtype=object)})
    data = prepare(
        spec(target={"column": "label", "labels": labels}),
        splits(train=train, test=train.assign(text=train.text + "!"), validation=train.assign(text=train.text + "?")),
    )
    assert [e.target for e in data.splits["train"][:4]] == ["yes", "yes", "no", "no"]
    assert data.labels == tuple(labels.values())


def test_labels_without_a_map_are_the_values_as_text(spec: Spec) -> None:
    data = prepare(spec(), splits(**{s: frame(s, 10, (True, 1.0, "x")) for s in ("train", "validation", "test")}))
    assert data.labels == ("1", "true", "x")


def test_text_labels_without_a_map_are_kept_as_written(spec: Spec) -> None:
    data = prepare(spec(), splits(**{s: frame(s, 10, ("1.0", "1.10", "010")) for s in ("train", "validation", "test")}))
    assert data.labels == ("010", "1.0", "1.10")


@pytest.mark.parametrize("keys", [("True", "true"), ("1", "1.0")])
def test_two_keys_that_are_one_label_are_refused(spec: Spec, keys: tuple[str, str]) -> None:
    target = {"column": "label", "labels": dict(zip(keys, ("yes", "no"), strict=True))}
    assert "two values of the map are the same label" in refused(spec(target=target), splits())


def test_a_missing_column_names_part_columns_and_the_nearest_name(spec: Spec) -> None:
    message = refused(spec(input="{txt}"), splits())
    assert "frame train: has no column `txt`; its columns: text, label" in message
    assert "did you mean `text`?" in message


def test_a_column_missing_from_one_of_several_files_names_that_file(spec: Spec, write_jsonl: Callable[..., str]) -> None:
    paths = [write_jsonl("one.jsonl", frame("one").to_dict("records")), write_jsonl("two.jsonl", [{"txt": "x", "label": "a"}])]
    assert "two.jsonl: has no column `text`" in refused(spec({"train": paths}), None)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_an_empty_split_is_a_plain_error(spec: Spec, split: str) -> None:
    assert f"the {split} split is empty" in refused(spec(), splits(**{split: frame("x", 0)}))


def test_an_empty_test_file_is_a_plain_error(spec: Spec, write_jsonl: Callable[..., str]) -> None:
    rows = frame("train").to_dict("records")
    message = refused(spec({"train": write_jsonl("train.jsonl", rows), "test": write_jsonl("test.jsonl", [])}), None)
    assert "the test split is empty: no rows in" in message
    assert "test.jsonl" in message


def test_a_class_with_too_few_training_rows_is_named_with_its_count(spec: Spec) -> None:
    train = with_row(frame("train"), text="rare", label="c")
    assert "'c' has 1" in refused(spec(), splits(train=train))
    assert "c" in prepare(spec(min_rows_per_class=1), splits(train=train)).labels


def test_a_label_of_the_map_without_training_rows_is_refused(spec: Spec) -> None:
    target = {"column": "label", "labels": {"a": "good", "b": "bad", "c": "odd"}}
    assert "'odd' has 0" in refused(spec(target=target), splits())


def test_a_label_that_no_test_row_has_is_a_warning(spec: Spec) -> None:
    data = prepare(spec(), splits(test=frame("test", 4, ("a",))))
    assert data.report.warnings == ("No test row has the label 'b'.",)


def test_free_text_taken_for_a_label_says_what_to_use_instead(spec: Spec) -> None:
    rows = frame("row", 30)
    message = refused(spec(), rows.assign(label=rows.text))
    assert "and 20 more" in message
    assert "for free text use data.target.template" in message


def test_a_single_class_is_refused(spec: Spec) -> None:
    message = refused(spec(), splits(**{s: frame(s, 4, ("a",)) for s in ("train", "validation", "test")}))
    assert "every training row has the label 'a'" in message


def test_rows_of_test_are_removed_from_train_and_validation_and_rows_of_validation_from_train(spec: Spec) -> None:
    data = splits(
        train=pd.concat([frame("train"), pd.DataFrame({"text": ["TEST  0", "Validation 1\n"], "label": ["a", "b"]})]),
        validation=pd.concat([frame("validation"), pd.DataFrame({"text": ["test 2"], "label": ["a"]})]),
    )
    prepared = prepare(spec(), data)
    assert inputs(prepared, "train") == list(frame("train").text)
    assert inputs(prepared, "validation") == list(frame("validation").text)
    assert inputs(prepared, "test") == list(frame("test", 6).text)
    assert {(leak.id, leak.removed_from, leak.stands_in, leak.as_id) for leak in prepared.report.leakage} == {
        ("train/10", "train", "test", "test/0"),
        ("train/11", "train", "validation", "validation/1"),
        ("validation/10", "validation", "test", "test/2"),
    }
    assert sum(warning.startswith("Leakage: 1 row was removed") for warning in prepared.report.warnings) == 3


def test_a_row_that_validation_loses_to_test_is_gone_from_train_too(spec: Spec) -> None:
    same = pd.DataFrame({"text": ["same"], "label": ["a"]})
    prepared = prepare(spec(), {split: pd.concat([rows, same]) for split, rows in splits().items()})
    assert [inputs(prepared, split).count("same") for split in ("train", "validation", "test")] == [0, 0, 1]


def test_a_train_split_that_stands_in_test_altogether_is_a_plain_error(spec: Spec) -> None:
    assert "the train split is empty" in refused(spec(), splits(test=frame("train")))


def test_repeated_inputs_are_reported_and_those_with_different_targets_apart(spec: Spec) -> None:
    more = pd.DataFrame({"text": ["Train 0", "train  1", "train 1"], "label": ["a", "a", "b"]})
    report = prepare(spec(), splits(train=pd.concat([frame("train"), more]))).report
    assert [(r.split, r.ids, r.targets) for r in report.duplicates] == [("train", ("train/0", "train/10"), ("a",))]
    assert [(r.ids, r.targets) for r in report.conflicts] == [(("train/1", "train/11", "train/12"), ("b", "a"))]
    assert report.splits["train"].rows == 13
    assert report.warnings == ("1 input was found in train more than once with different targets.",)


@pytest.mark.parametrize(
    "data", [[1], {"train": [1]}, {"training": frame("x")}, {"test": frame("x")}, {"train": frame("x"), "dev": frame("y")}]
)
def test_what_is_no_frame_or_names_no_split_is_refused(spec: Spec, data: Any) -> None:
    assert "DataFrame" in refused(spec(), data)


def test_a_frames_index_and_its_way_to_say_missing_do_not_matter(spec: Spec) -> None:
    train = with_row(frame("train"), text=pd.NA, label="a").convert_dtypes()
    train.index = pd.Index([0] * len(train))
    assert [bad.id for bad in prepare(spec(max_bad_rows=1), splits(train=train)).report.bad_rows] == ["train/10"]


def test_two_columns_of_one_name_are_refused(spec: Spec) -> None:
    rows = frame("x", 20)
    assert "two columns are called `text`" in refused(spec(), pd.concat([rows, rows[["text"]]], axis=1))


def test_serving_can_use_the_same_rules_for_a_cell() -> None:
    assert cell_problem("text") is None
    assert cell_problem(None) == "is empty"
    assert render("{{{a}}} {0}", {"a": "x", "0": 1.5}) == "{x} 1.5"
    with pytest.raises(KeyError):
        render("{a}", {})
