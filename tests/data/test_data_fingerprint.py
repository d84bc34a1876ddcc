"""The data fingerprint covers what is used, and nothing else."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt_core.data import prepare
from softprompt_core.spec import parse_spec

COLUMNS = ("text", "label", "source", "unused")
ROWS = 24


def frames() -> dict[str, list[dict[str, Any]]]:
    def rows(split: str) -> list[dict[str, Any]]:
        return [{"text": f"{split} {i}", "label": "ab"[i % 2], "source": "web", "unused": i} for i in range(ROWS)]

    return {split: rows(split) for split in ("train", "validation", "test")}


def content(given_frames: dict[str, list[dict[str, Any]]], **data: Any) -> str:
    defaults = {
        "source": {"files": {"train": "unused.jsonl"}},
        "input": "{text}",
        "target": {"column": "label"},
        "slices": {"web": "source == 'web'"},
        "max_bad_rows": 1,
    }
    spec = parse_spec({"name": "toy", "data": {**defaults, **data}})
    return prepare(spec, {split: pd.DataFrame(rows) for split, rows in given_frames.items()}).fingerprint


@functools.cache
def unchanged() -> str:
    return content(frames())


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(("train", "validation", "test")),
    st.integers(0, ROWS - 1),
    st.sampled_from(COLUMNS),
    st.sampled_from(["b ", None, "7"]),
)
def test_one_changed_cell_changes_it_unless_the_column_is_unused(split: str, row: int, column: str, value: Any) -> None:
    changed = copy.deepcopy(frames())
    changed[split][row][column] = value if column != "label" else "ab"[(row + 1) % 2]
    assert (content(changed) == unchanged()) == (column == "unused")


def test_row_order_matters() -> None:
    changed = frames()
    changed["train"].reverse()
    assert content(changed) != content(frames())


def test_a_row_that_moves_from_one_split_to_another_changes_it() -> None:
    changed = frames()
    changed["validation"].append(changed["train"].pop())
    assert content(changed) != content(frames())


@pytest.mark.parametrize("value", [["a"], ["b"], b"a", None])
def test_a_change_in_a_bad_row_changes_it(value: Any) -> None:
    changed = frames()
    changed["train"][0]["text"] = value
    other = frames()
    other["train"][0]["text"] = ["c"]
    assert content(changed) != content(other)


def test_split_settings_count_only_where_splits_are_made() -> None:
    given_all, train_only = frames(), {"train": frames()["train"]}
    settings_of = [{}, {"seed": 1}, {"test": 0.3}, {"validation": 0.2}]
    assert len({content(given_all, splits=s) for s in settings_of}) == 1
    assert len({content(train_only, splits=s) for s in settings_of}) == 4
    two = {"train": given_all["train"], "test": given_all["test"]}
    assert content(two, splits={"test": 0.3}) == content(two) != content(two, splits={"validation": 0.2})


def test_templates_words_and_slice_bounds_belong_to_the_spec_and_not_to_the_data() -> None:
    other = {"input": "Text: {text}", "slices": {"app": "source == 'app'"}, "max_bad_rows": 0}
    words = {"column": "label", "labels": {"a": "good", "b": "bad"}}
    assert content(frames(), **other, target=words) == content(frames())


def test_a_column_that_only_a_slice_uses_counts_while_the_slice_is_there() -> None:
    changed = frames()
    changed["test"][0]["source"] = "app"
    assert content(changed) != content(frames())
    assert content(changed, slices={}) == content(frames(), slices={})
