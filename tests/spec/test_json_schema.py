"""The JSON Schema of specs, for editors: it takes what the loader takes, and explains every key."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from softprompt_core.errors import InvalidInput
from softprompt_core.spec import PromptSpec, json_schema, load_spec, parse_spec, spec_files
from tests.spec.example import GOOD, plain

DEMO = Path(__file__).parents[2] / "deployments" / "demo"


@functools.cache
def validator() -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    return jsonschema.Draft202012Validator(json_schema())


def schema_takes(value: Any) -> bool:
    return validator().is_valid(value)


def loader_takes(value: dict[str, Any]) -> bool:
    try:
        parse_spec(value)
    except InvalidInput:
        return False
    return True


@pytest.mark.parametrize("path", spec_files(DEMO), ids=lambda path: path.stem)
def test_the_shipped_specs_are_right_and_the_json_schema_takes_them(path: Path) -> None:
    assert isinstance(load_spec(path), PromptSpec)
    assert schema_takes(plain(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"base_model": {"id": "org/model", "revision": "main", "dtype": "bfloat16"}},
        {"prompt": {"length": 5, "init": "text", "text": "a start"}},
        {"training": {"learning_rate": 0.1, "max_steps": "auto", "seeds": 3}},
        {"schedule": {"cron": "0 3 * * 1"}},
        {"schedule": None},
        {"gates": []},
        {"base_modell": "bundled"},
        {"base_model": {"id": "x", "dtype": "int8"}},
        {"base_model": 3},
        {"prompt": {"length": 0}},
        {"prompt": {"length": 1001}},
        {"training": {"learning_rate": 0}},
        {"training": {"learning_rate": "high"}},
        {"gates": [{"at_least": 0.5}]},
        {"gates": [{"metric": "accuracy", "at_leest": 0.5}]},
        {"approval": "perhaps"},
        {"name": "My Task"},
        {"name": None},
        {"data": {"input": "{text}"}},
    ],
    ids=str,
)
def test_the_json_schema_takes_what_the_loader_takes(change: dict[str, Any]) -> None:
    value = plain(GOOD) | change
    assert schema_takes(value) is loader_takes(value)


@pytest.mark.parametrize("files", ["rows.csv", ["a.csv", "b.csv"], None, 3, [3]], ids=str)
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_json_schema_takes_a_file_or_a_list_of_files(split: str, files: Any) -> None:
    value = plain(GOOD)
    value["data"]["source"]["files"] = {"train": "rows.csv", split: files}
    assert schema_takes(value) is loader_takes(value)


def test_every_key_of_the_schema_is_explained() -> None:
    schema = json_schema()
    parts = {"PromptSpec": schema, **schema["$defs"]}
    fields = {f"{name}.{key}": field for name, part in parts.items() for key, field in part["properties"].items()}
    # A reference without words of its own takes those of the part that it names.
    words = {
        name: {**schema["$defs"].get(field.get("$ref", "").rpartition("/")[2], {}), **field} for name, field in fields.items()
    }
    assert not [name for name, field in words.items() if not field.get("description")]
