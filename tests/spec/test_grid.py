"""A grid over a spec: what users write on the command line, and what they get told; and a spec whose text is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from softprompt_core.errors import InvalidInput
from softprompt_core.spec import PromptSpec, load_spec, parse_spec
from softprompt_core.spec.grid import GridPoint, grid_points, parse_grid
from softprompt_core.spec.rewriting import write_spec
from tests.toy_task import toy

TEXT = """\
# Which way?
name: toy
base_model: bundled   # small
data:
  source: {files: {train: rows.csv}}
  input: "{text}"
  target: {column: label}
prompt:
  # vectors
  length: 20   # as ever
training: {batch_size: 8}
"""


def points(*axes: str, **options: Any) -> list[GridPoint]:
    return grid_points(parse_spec(toy("bundled", training={"seeds": 3})), parse_grid(axes), **options)


def test_values_are_yaml_and_become_what_the_spec_reads() -> None:
    grid = parse_grid(["training.learning_rate=1e-3,auto", ' data.input = "{text}","{text}, or" ', "prompt.init=labels"])
    assert grid == {
        "training.learning_rate": [1e-3, "auto"],
        "data.input": ["{text}", "{text}, or"],
        "prompt.init": ["labels"],
    }
    tried = grid_points(parse_spec(toy("bundled")), grid)
    assert [point.spec.training.learning_rate for point in tried] == [1e-3, 1e-3, "auto", "auto"]
    assert tried[0].settings["training.learning_rate"] == 1e-3  # a number, as figures need it
    assert tried[1].name == "training.learning_rate=0.001 data.input={text}, or prompt.init=labels"


def test_every_combination_is_a_point_and_the_rest_of_the_spec_stays() -> None:
    tried = points("prompt.length=1,5", "base_model.dtype=float32,bfloat16", "training.seeds=1,2")
    assert [tuple(point.settings.values()) for point in tried] == [
        (length, dtype, seeds) for length in (1, 5) for dtype in ("float32", "bfloat16") for seeds in (1, 2)
    ]
    assert {point.spec.base_model.id for point in tried} == {"bundled"}
    common = parse_spec(toy("bundled", training={"seeds": 3}))
    assert all(point.spec.gates == common.gates and point.spec.data == common.data for point in tried)


def test_paths_are_taken_from_the_given_folder(tmp_path: Path) -> None:
    spec = parse_spec(toy("bundled", prompt={"init": "file", "file": "/a.npy"}))
    (point,) = grid_points(spec, {"prompt.file": ["b.npy"]}, folder=tmp_path)
    assert point.spec.prompt.file == str(tmp_path / "b.npy")


MISTAKES = {
    "misspelt": (["prompt.lenght=1"], r"--grid prompt.lenght=1: unknown key `prompt.lenght`; did you mean `length`\?"),
    "misspelt part": (["promt.length=1"], r"unknown key `promt`; did you mean `prompt`\?"),
    "bad value": (["prompt.length=5,0"], r"--grid prompt.length=0: `prompt.length`: Input should be greater than or equal to 1"),
    "values that do not go together": (["prompt.init=text"], "`text` and `init: text` go together"),
    "no values": (["prompt.length="], "`prompt.length=` names no values.*\n.*--grid prompt.length=1,5,20"),
    "no equals sign": (["prompt.length"], "names no values"),
    "not YAML": (["prompt.length=[1"], "cannot be read as YAML values.*\n.*into quotes"),
    "braces without quotes": (["data.input={text}"], "`data.input`: Input should be a valid string"),
    "a value twice": (["prompt.length=5,5"], "lists 5 twice"),
    "a key twice": (["prompt.length=5", "prompt.length=1"], "`prompt.length` is given twice"),
    "a part and something in it": (["prompt={length: 2}", "prompt.init=labels"], "lies inside `prompt`, which is swept too"),
    "not of training": (["gates=[]"], "--grid gates: has no part in training"),
    "the name": (["name=a,b"], "has no part in training"),
    "other rows": (["data.source.hub=a"], "changes the rows that points are compared on"),
    "other splits": (["data.splits.seed=1,2"], "changes the rows that points are compared on"),
    "nothing": ([], "nothing to sweep"),
    "too many": (
        ["prompt.length=1,2,3", "training.seed=1,2,3,4"],
        r"12 points \(3 × 4\), 36 prompts to train; the limit is 10 points\n.*--max-points 12",
    ),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_told_with_its_key(kind: str) -> None:
    axes, words = MISTAKES[kind]
    with pytest.raises(InvalidInput, match=words):
        points(*axes, max_points=10)


def written(tmp_path: Path, settings: dict[str, Any], file: str = "spec.yaml", text: str = TEXT) -> tuple[str, PromptSpec]:
    source = tmp_path / "spec.yaml"
    source.write_text(text, encoding="utf-8")
    (point,) = grid_points(load_spec(source), {key: [value] for key, value in settings.items()}, folder=tmp_path)
    target = tmp_path / file
    target.parent.mkdir(exist_ok=True)
    write_spec(source, point.settings, point.spec, target)
    assert load_spec(target) == point.spec
    return target.read_text(encoding="utf-8"), point.spec


def test_a_written_spec_keeps_comments_and_changes_only_what_was_chosen(tmp_path: Path) -> None:
    settings = {"prompt.length": 5, "prompt.init": "vocabulary", "training.learning_rate": 0.3, "base_model.dtype": "float32"}
    text, _ = written(tmp_path, settings)
    assert text == (
        TEXT.replace("length: 20", "init: vocabulary\n  length: 5 ")
        .replace("{batch_size: 8}", "{batch_size: 8, learning_rate: 0.3}")
        .replace("base_model: bundled   #", "base_model: {id: bundled, dtype: float32} #")
    )


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        (TEXT.replace("training: {batch_size: 8}\n", ""), {"training.max_steps": 9}),  # a part that is not there
        (TEXT.replace("{batch_size: 8}", "{}"), {"training.max_steps": 9}),
        (TEXT, {"data.target.labels": {"a": "yes", "b": "no"}}),
        (TEXT.replace("prompt:\n", "prompt:\n  text: one\n  init: text\n"), {"prompt": {"length": 3}}),  # a whole block
        (TEXT, {"base_model": "."}),
    ],
)
def test_whatever_is_chosen_the_written_spec_reads_as_the_point(tmp_path: Path, text: str, settings: dict[str, Any]) -> None:
    new_text, _ = written(tmp_path, settings, text=text)
    assert new_text.startswith("# Which way?\n")


def test_in_another_folder_paths_become_absolute(tmp_path: Path) -> None:
    text, spec = written(tmp_path, {"prompt.length": 5}, "elsewhere/new.yaml")
    assert str(tmp_path / "rows.csv") in text and spec.prompt.length == 5


@pytest.mark.parametrize("keys", ["010: a, 1.10: b, 12:30: c", "1: a, 0x1: b", "2024-99-99: a, 2024-01-01: b", "~: a, yes: b"])
def test_keys_of_labels_stay_what_they_are_in_a_written_spec(tmp_path: Path, keys: str) -> None:
    text = TEXT.replace("{column: label}", f"{{column: label, labels: {{{keys}}}}}")
    _, spec = written(tmp_path, {"prompt.length": 5}, text=text)
    assert spec.data.target.labels == {key: word for key, word in (pair.rsplit(": ", 1) for pair in keys.split(", "))}
