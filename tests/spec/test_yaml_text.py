"""YAML as specs use it: what stands in a file is meant, and no text gets further than a message."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from softprompt_core.errors import InvalidInput
from softprompt_core.spec import load_spec
from softprompt_core.spec.yaml_text import MAX_CHARACTERS, read_yaml, to_yaml
from tests.spec.example import GOOD

SPEC = GOOD.replace("- metric: accuracy\n    slice: long\n    at_least: 0.5", "- {metric: accuracy, slice: long, at_least: 0.5}")
bounded = settings(max_examples=100, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))


def refusal(text: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as refused:
        read_yaml(text, "toy.yaml")
    assert refused.value.do and len(str(refused.value)) < 1000
    return refused.value


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        (SPEC + "gates: []\n", "gates", "lines 10 and 14"),
        (SPEC.replace("{0: bad, 1: good}", "{0: a, 1: b, 0: c}"), "data.target.labels.0", "line 8"),
        (SPEC.replace("{0: bad, 1: good}", "\n      0: a\n      '0': c"), "data.target.labels.0", "lines 9 and 10"),
        (SPEC.replace("    at_least: 0.8", "    at_least: 0.8\n    at_least: 0.1"), "gates.0.at_least", "lines 12 and 13"),
    ],
)
def test_a_key_that_is_written_twice_is_refused_with_both_lines(text: str, key: str, lines: str) -> None:
    refused = refusal(text)
    assert refused.what == f"`{key}` is written twice, on {lines}"
    assert refused.where == f"toy.yaml:{lines.split()[-1]}"


@pytest.mark.parametrize("key", ["010", "0x1F", "12:30", "1.10", "1.0", "2024-01-01", "true", "No", "~", "1_000", "<<", "="])
def test_a_key_is_the_text_that_stands_in_the_file(key: str, tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(SPEC.replace("{0: bad,", f"{{{key}: bad,"))
    assert load_spec(path).data.target.labels == {key: "bad", "1": "good"}


def test_values_are_numbers_only_where_nothing_else_can_be_meant() -> None:
    text = "[1, 010, -2.5, 1e-3, 1_000, true, null, 2024-01-01, 12:30, 12e4567, yes, -_]"
    values = [1, 10, -2.5, 1e-3, 1000, True, None, "2024-01-01", "12:30", "12e4567", "yes", "-_"]
    assert read_yaml(text, "toy.yaml").value == values


def test_the_line_of_every_key_and_entry_is_known() -> None:
    lines = read_yaml(SPEC, "toy.yaml").lines
    assert (lines[("data", "target", "labels", "1")], lines[("gates", "0", "at_least")], lines[("gates", "1")]) == (8, 12, 13)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nx: &x [*x]\n", 2, "anchors"),
        ("a: &a [1]\nb: *a\n", 1, "anchors"),
        ("a: *nowhere\n", 1, "anchors"),
        ("a: 1\nb: !!int rel-a\n", 2, "tags"),
        ("a: !!bool x\n", 1, "tags"),
        ("a: !!timestamp abc\n", 1, "tags"),
        ("a: !!python/object/apply:os.getcwd []\n", 1, "tags"),
        ("[" * 3000, 1, "nested more than 40 deep"),
        ("{a: " * 3000, 1, "nested more than 40 deep"),
        ("- " * 3000, 1, "nested more than 40 deep"),
        ("[" + "1, " * 30_000, 1, "more than 20,000 keys and values"),
        ("a: 1\n---\nb: 2\n", 2, "another document"),
        ("a: 1\n? [b]\n: 2\n", 2, "a key is text"),
    ],
)
def test_what_no_spec_needs_is_refused_with_its_line(text: str, line: int, words: str) -> None:
    refused = refusal(text)
    assert words in refused.what and refused.where == f"toy.yaml:{line}"


@pytest.mark.parametrize(
    "text", ['a: "\\UFFFFFFFF"', "a: \0", "\ud800", "%YAML 9.9\n---\na: 1\n", "%TAG ! x\n%TAG ! y\n---\na\n"]
)
def test_text_that_breaks_the_parser_is_refused(text: str) -> None:
    assert "is not valid YAML" in refusal(text).what


def test_a_huge_text_is_refused_at_once() -> None:
    began = time.process_time()
    assert f"more than {MAX_CHARACTERS:,}" in refusal("# comment\n" * 3_000_000).what
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "text",
    [
        SPEC.replace("name: toy", f"name: {'x' * 100_000}"),
        SPEC.replace('"{text}"', '"{' + "x" * 100_000 + '!}"'),
        SPEC.replace("base_model:", f"{'k' * 100_000}:"),
        SPEC + "".join(f"k{number}: 1\n" for number in range(2000)),
        SPEC.replace("at_least: 0.8", f"at_least: {'9' * 5000}"),
    ],
    ids=["value", "template", "key", "many keys", "digits"],
)
def test_a_message_stays_short_whatever_the_file_holds(tmp_path: Path, text: str) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput) as refused:
        load_spec(path)
    assert len(str(refused.value)) < 8000


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", "x" * 5000, '"\\0"', '"\\ud800"'])
def test_a_path_that_no_system_could_have_is_no_error_of_the_loader(tmp_path: Path, path: str) -> None:
    file = tmp_path / "toy.yaml"
    file.write_text(SPEC.replace("rows.csv", path).replace("base_model: bundled", f"base_model: {path}"))
    assert load_spec(file).base_model.id


plain_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4),
    max_leaves=12,
)


@bounded
@given(plain_data, st.booleans())
def test_written_data_read_back_equal(value: Any, flow: bool) -> None:
    text = to_yaml(value, flow=flow)
    assert read_yaml(text, "toy.yaml").value == value
    assert not flow or "\n" not in text


def loads_or_refuses(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "toy.yaml"
        path.write_text(text, encoding="utf-8", errors="replace")
        try:
            load_spec(path)
        except InvalidInput as error:
            assert len(str(error)) < 8000


PIECES = [
    "&x ",
    "*x",
    "!!int ",
    "!!bool x",
    "!!timestamp ",
    "! ",
    "[",
    "]",
    "{",
    "}",
    ": ",
    "? ",
    "- ",
    "#",
    "|",
    ">",
    "%",
    "'",
    '"',
]
PIECES += [
    "\t",
    "\n",
    "  ",
    "---\n",
    "...\n",
    "\ufeff",
    "\0",
    "\u2028",
    "\x85",
    "1" * 5000,
    "[" * 500,
    "<<: ",
    "~",
    "%YAML 1.1\n",
]


@bounded
@given(st.randoms(use_true_random=False), st.integers(1, 4))
def test_a_spec_with_any_mutation_loads_or_is_refused(source: random.Random, count: int) -> None:
    text = SPEC
    for _ in range(count):
        at, until = sorted((source.randrange(len(text) + 1), source.randrange(len(text) + 1)))
        until = min(until, at + source.choice((0, 0, 1, 5, 40)))
        text = text[:at] + source.choice((*PIECES, "", text[until : until + 30], chr(source.randrange(0xD7FF)))) + text[until:]
    loads_or_refuses(text)


@bounded
@given(st.text(st.sampled_from("ab01.:-?&*![]{}#|>%@`'\"\\,~\n\t ") | st.characters(), max_size=60))
def test_any_text_loads_or_is_refused(text: str) -> None:
    loads_or_refuses(text)
