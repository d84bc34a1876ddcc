"""Slices: a small and harmless part of pandas' query language, row by row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from softprompt_core.data import prepare
from softprompt_core.data.slices import parse_slice
from softprompt_core.errors import InvalidInput

FRAME = pd.DataFrame(
    {
        "text": ["short", "a rather long text", "Third", "four words are here"],
        "label": ["a", "b", "a", "b"],
        "stars": pd.Series([1, 5, None, 3]),
        "source": ["web", None, "app", "web"],
        "odd name": ["x", "y", "x", "y"],
        "checked": [True, False, True, False],
        "tags": [["a", "b"], [], ["c"], ["d"]],
    }
)


def members(spec: Callable[..., Any], expression: str, **data: Any) -> list[int]:
    frames = {split: FRAME.assign(text=FRAME.text + mark) for split, mark in (("train", ""), ("validation", "?"), ("test", "!"))}
    prepared = prepare(spec(slices={"part": expression}, **data), frames)
    chosen = {split: [int(e.id.split("/")[1]) for e in rows if "part" in e.slices] for split, rows in prepared.splits.items()}
    assert chosen["train"] == chosen["validation"] == chosen["test"]
    assert {split: report.slices["part"] for split, report in prepared.report.splits.items()} == {
        s: len(c) for s, c in chosen.items()
    }
    return chosen["test"]


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("len(text) > 10", [1, 3]),
        ("text.str.len() > 10", [1, 3]),
        ('source == "web"', [0, 3]),
        ("source in ['app', 'site']", [2]),
        ("source not in ['web', 'app']", [1]),
        ("source.isna()", [1]),
        ("len(source) == 3", [0, 2, 3]),
        ("stars > 2", [1, 3]),
        ("1 < stars <= 3", [3]),
        ("stars.between(1, 3)", [0, 3]),
        ("stars + 1 == 2", [0]),
        ("`odd name` == 'x'", [0, 2]),
        ("`odd name` == 'x' and source == '`odd name`'", []),
        ("checked", [0, 2]),
        ("not checked", [1, 3]),
        ("~checked & stars > 3", [1]),
        ("(stars > 3) | (source == 'app')", [1, 2]),
        ("stars > 3 or len(text) > 10 and source == 'web'", [1, 3]),
        ("text.str.contains('LONG', case=False)", [1]),
        ("text.str.lower() == 'third' or text.str.startswith('Third')", [2]),
        ("len(tags) > 1", [0]),
        ("float(source) > 0", []),
        ("len(text) > 10\n  and source == 'web'\n", [3]),
        ("source.isin(['web']) and stars in (1, -1)", [0]),
    ],
)
def test_an_expression_chooses_rows(spec: Callable[..., Any], expression: str, rows: list[int]) -> None:
    assert members(spec, expression) == rows


def test_input_and_target_are_the_rendered_texts(spec: Callable[..., Any]) -> None:
    target = {"column": "label", "labels": {"a": "good", "b": "bad"}}
    assert members(spec, "input.str.startswith('Text: ') and target == 'good'", input="Text: {text}", target=target) == [0, 2]


def test_a_column_called_input_comes_before_the_rendered_text(spec: Callable[..., Any]) -> None:
    rows = pd.DataFrame({"text": [f"row {i}" for i in range(20)], "label": ["a", "b"] * 10, "input": ["x", "y"] * 10})
    prepared = prepare(spec(slices={"x": "input == 'x'"}), rows)
    assert all(("x" in e.slices) == (e.target == "a") for split in prepared.splits.values() for e in split)


def test_csv_text_becomes_a_number_with_float(spec: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("text,label,stars\n" + "".join(f"row {i},{'ab'[i % 2]},{i}\n" for i in range(20)))
    prepared = prepare(spec({"train": str(path)}, slices={"many": "float(stars) >= 10"}), None)
    assert sum("many" in e.slices for split in prepared.splits.values() for e in split) == 10
    with pytest.raises(InvalidInput, match=r"data\.slices\.many: .*a cell of a csv file is text"):
        prepare(spec({"train": str(path)}, slices={"many": "stars >= 10"}), None)


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("len(text) >", "cannot be read"),
        ("", "cannot be read"),
        ("1 == 1", "names no column"),
        ("len(txt) > 3", "names `txt`, which is no column; did you mean `text`"),
        ("text", "does not say true or false"),
        ("len(text)", "does not say true or false"),
        ("stars > 'x'", "does not fit the data"),
        ("len(stars) > 1", "does not fit the data"),
        ("text.str.contains('(')", "does not fit the data"),
    ],
)
def test_a_bad_expression_names_slice_and_columns(spec: Callable[..., Any], expression: str, problem: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        members(spec, expression)
    assert "data.slices.part" in str(caught.value)
    assert problem in str(caught.value)
    if problem not in ("cannot be read", "names no column"):
        assert "text, label, stars, source, odd name, checked, tags, input, target" in str(caught.value)


@pytest.mark.parametrize(
    "expression",
    [
        "@len(text) > 1",
        "text.__class__ == 1",
        "__import__('os').system('true') == text",
        "open('secret') == text",
        "text.to_csv('stolen') == 1",
        "text.str.cat() == 'x'",
        "stars > stars.mean()",
        "stars.count() > 1 and checked",
        "text.str == 1",
        "text[0] == 'x'",
        "(lambda: text)() == 1",
        "[x for x in text] == 1",
        "f'{text}' == 1",
        "stars ** 9 > 1",
        "text is None",
        "source in label",
        "source.isin(label)",
        "source in [label]",
        "'long' in text",
        "text.map(print) == 1",
        "len.__self__ == text",
        "stars if checked else text",
        "(text := 1) == 1",
    ],
)
def test_nothing_beyond_the_row_can_be_reached(
    spec: Callable[..., Any], expression: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=r"data\.slices\.part"):
        members(spec, expression)
    assert not (tmp_path / "stolen").exists()


def test_harmless_looking_attributes_are_refused_before_any_data_is_read() -> None:
    with pytest.raises(InvalidInput, match="may not use"):
        parse_slice("part", "text.to_pickle('x') == 1")


def test_a_slice_without_test_rows_is_a_warning(spec: Callable[..., Any]) -> None:
    rows = pd.DataFrame({"text": [f"row {i}" for i in range(20)], "label": ["a", "b"] * 10})
    assert prepare(spec(slices={"long": "len(text) > 120"}), rows).report.warnings == ("No test row is in the slice 'long'.",)


def test_only_test_must_have_a_slices_column(spec: Callable[..., Any]) -> None:
    rows = pd.DataFrame({"text": [f"row {i}" for i in range(20)], "label": ["a", "b"] * 10})
    test = rows.assign(text=rows.text + "!", source="web")
    prepared = prepare(spec(slices={"web": "source == 'web'"}), {"train": rows, "test": test})
    assert [prepared.report.splits[s].slices["web"] for s in ("train", "validation", "test")] == [0, 0, 20]
    with pytest.raises(InvalidInput, match="which is no column"):
        prepare(spec(slices={"web": "source == 'web'"}), {"train": test, "test": rows})
