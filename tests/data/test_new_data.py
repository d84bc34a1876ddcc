"""New rows: the task's own templates, with or without answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from softprompt_core.data import load_new_rows
from softprompt_core.errors import InvalidInput
from softprompt_core.spec import PromptSpec, parse_spec

LABELS = ("negative", "positive")


def spec(**data: Any) -> PromptSpec:
    value = {"source": {"files": {"train": "t.csv"}}, "input": "{text}!", "target": {"column": "label"}, **data}
    return parse_spec({"name": "toy", "data": value})


def test_rows_with_answers_are_labelled_and_bad_ones_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("text,label\ngood,positive\nso so,neutral\n,negative\n", encoding="utf-8")
    new = load_new_rows(spec(), LABELS, [str(path)])
    assert new.labelled and [(e.id, e.input, e.target) for e in new.examples] == [("new/0", "good!", "positive")]
    assert [row.id for row in new.bad] == ["new/1", "new/2"] and "neutral" in new.bad[0].problem


def test_rows_without_the_answer_column_are_unlabelled() -> None:
    new = load_new_rows(spec(), LABELS, ["–"], pd.DataFrame({"text": ["good", "bad"]}))
    assert not new.labelled and [(e.input, e.target) for e in new.examples] == [("good!", ""), ("bad!", "")]


def test_labels_are_the_champions_even_if_few_occur() -> None:
    target = {"column": "label", "labels": {0: "negative", 1: "positive"}}
    new = load_new_rows(spec(target=target), LABELS, ["–"], pd.DataFrame({"text": ["good", "fine"], "label": [1, 1]}))
    assert [e.target for e in new.examples] == ["positive", "positive"]


def test_slices_without_their_columns_are_left_out() -> None:
    sliced = spec(slices={"web": "source == 'web'", "short": "len(text) < 4"})
    new = load_new_rows(sliced, LABELS, ["–"], pd.DataFrame({"text": ["good", "bad"], "label": ["positive", "negative"]}))
    assert [set(e.slices) for e in new.examples] == [set(), {"short"}]


def test_generation_takes_its_target_template() -> None:
    new = load_new_rows(spec(target={"template": "{a} {b}"}), (), ["–"], pd.DataFrame({"text": ["x"], "a": ["y"], "b": ["z"]}))
    assert new.labelled and new.examples[0].target == "y z"
    assert not load_new_rows(spec(target={"template": "{a} {b}"}), (), ["–"], pd.DataFrame({"text": ["x"], "a": ["y"]})).labelled


@pytest.mark.parametrize("content, words", [("other\nx\n", "has no column `text`"), ("text,label\n", "is empty")])
def test_what_cannot_be_read_is_told(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "new.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidInput, match=words):
        load_new_rows(spec(), LABELS, [str(path)])
    with pytest.raises(InvalidInput, match="no file matches"):
        load_new_rows(spec(), LABELS, [str(tmp_path / "none-*.csv")])
