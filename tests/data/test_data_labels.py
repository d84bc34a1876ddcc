"""Labels: what is one label, which ones are taken for each other, and what is said about one that is not known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from softprompt_core.data import prepare
from softprompt_core.data.labels import label_text
from softprompt_core.data.look_alikes import look_alikes, looks, unknown_label
from softprompt_core.errors import InvalidInput
from softprompt_core.spec import load_spec

NFC, NFD, HIDDEN = "caf\u00e9", "cafe\u0301", "go\u200bod"


def write(folder: Path, kind: str, values: list[Any]) -> Path:
    """Thirty rows with these labels in turn; ``values`` are as the kind of file can hold them."""
    rows = [{"text": f"row {i}", "label": values[i % len(values)]} for i in range(30)]
    path = folder / f"rows.{kind}"
    if kind == "csv":
        path.write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows))
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.table({name: [row[name] for row in rows] for name in ("text", "label")}), path)
    return path


def labels_of(folder: Path, keys: str, path: Path) -> tuple[str, ...]:
    spec = folder / "toy.yaml"
    spec.write_text(
        "name: toy\ndata:\n"
        f"  source: {{files: {{train: {path.name}}}}}\n"
        '  input: "{text}"\n'
        f"  target: {{column: label, labels: {{{keys}}}}}\n"
    )
    data = prepare(load_spec(spec))
    assert {example.target for example in data.splits["train"]} == set(data.labels)
    return data.labels


@pytest.mark.parametrize("keys", ["0: a, 1: b", "'0': a, '1': b", "0.0: a, 1.0: b"])
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        *(("jsonl", values) for values in ([0, 1], [0.0, 1.0], ["0", "1"], ["0.0", "1.0"], [-0.0, "1"])),
        *(("csv", values) for values in (["0", "1"], ["0.0", "1.0"], ["-0.0", " 1"])),
        *(("parquet", values) for values in ([0, 1], [0.0, 1.0], ["0", "1.0"])),
    ],
    ids=str,
)
def test_a_number_is_one_label_however_key_and_cell_write_it(tmp_path: Path, keys: str, kind: str, values: list[Any]) -> None:
    assert labels_of(tmp_path, keys, write(tmp_path, kind, values)) == ("a", "b")


@pytest.mark.parametrize("key", ["010", "12:30", "1.10", "2024-01-01", "0x1F", "1_000", "yes", "~"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_key_is_the_cell_s_own_text(tmp_path: Path, key: str, kind: str) -> None:
    assert labels_of(tmp_path, f"{key}: a, other: b", write(tmp_path, kind, [key, "other"])) == ("a", "b")


@settings(max_examples=100, derandomize=True, database=None, deadline=None)
@given(st.integers(-(10**15), 10**15))
def test_an_integer_is_one_label_in_every_type(number: int) -> None:
    assert {label_text(value) for value in (number, float(number), str(number), f"{number}.0")} == {str(number)}


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("Good", "good", "they differ in upper and lower case"),
        (NFC, NFD, "different Unicode forms"),
        ("good", HIDDEN, "the invisible character U+200B"),
        ("not  sure", "not sure", "they differ in blanks"),
        ("good", "g\u043e\u043ed", "U+043E"),
        ("A", "\uff21", "U+FF21"),
    ],
)
def test_labels_that_look_alike_are_a_warning_and_stay_apart(spec: Callable[..., Any], one: str, other: str, words: str) -> None:
    rows = pd.DataFrame({"text": [f"row {i}" for i in range(40)], "label": [one, other] * 20})
    data = prepare(spec(), rows)
    assert set(data.labels) == {one, other}
    (warning,) = (warning for warning in data.report.warnings if "look alike" in warning)
    assert words in warning and repr(one) in warning and repr(other) in warning
    values = prepare(spec(target={"column": "label", "labels": {one: "yes", other: "no"}}), rows)
    assert any("look alike" in warning and words in warning for warning in values.report.warnings)


def test_labels_that_differ_for_every_reader_are_no_warning(spec: Callable[..., Any]) -> None:
    rows = pd.DataFrame({"text": [f"row {i}" for i in range(40)], "label": ["good", "goods", "gold", "1"] * 10})
    assert not prepare(spec(), rows).report.warnings


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("Good", "did you mean 'good'? they differ in upper and lower case"),
        (HIDDEN, "did you mean 'good'? 'go\\u200bod' holds the invisible character U+200B"),
        (NFD, "did you mean 'café'? they are different Unicode forms of one text"),
        ("bda", "did you mean 'bad'?; known: good, bad, café"),
        ("neutral", "unknown label 'neutral'; known: good, bad, café"),
    ],
)
def test_an_unknown_label_is_told_with_what_tells_it_from_a_known_one(spec: Callable[..., Any], value: str, words: str) -> None:
    target = {"column": "label", "labels": {"good": "a", "bad": "b", NFC: "c"}}
    rows = pd.DataFrame({"text": [f"row {i}" for i in range(31)], "label": [*["good", "bad", NFC] * 10, value]})
    with pytest.raises(InvalidInput) as refused:
        prepare(spec(target=target), rows)
    assert words in str(refused.value)


def test_two_values_of_the_map_that_are_one_label_are_both_named(spec: Callable[..., Any]) -> None:
    target = {"column": "label", "labels": {"0": "a", "1": "b", "1.0": "c"}}
    rows = pd.DataFrame({"text": [f"row {i}" for i in range(30)], "label": ["0", "1"] * 15})
    with pytest.raises(InvalidInput, match=r"the same label: '1' and '1\.0'"):
        prepare(spec(target=target), rows)


@settings(max_examples=200, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=6), min_size=1, max_size=6), st.text(max_size=6))
def test_every_text_has_a_look_and_words_about_it(labels: list[str], value: str) -> None:
    assert looks(looks(value)) == looks(value)
    assert all(looks(one) == looks(other) for one, other in look_alikes(labels))
    words = unknown_label(value, labels)
    assert words.startswith("unknown label ") and len(words) < 1500
    json.dumps(words)
