from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from softprompt_core.spec import PromptSpec, parse_spec


def classification(files: Mapping[str, Any] | None = None, **data: Any) -> PromptSpec:
    """A spec over the columns `text` and `label`; `files` matters only where no frame is given."""
    defaults = {"source": {"files": files or {"train": "unused.jsonl"}}, "input": "{text}", "target": {"column": "label"}}
    return parse_spec({"name": "toy", "data": {**defaults, **data}})


@pytest.fixture
def spec() -> Callable[..., PromptSpec]:
    return classification


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[[str, Iterable[Mapping[str, Any]]], str]:
    def write(name: str, rows: Iterable[Mapping[str, Any]]) -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return write
