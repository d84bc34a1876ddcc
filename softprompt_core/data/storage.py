"""``TaskData`` in a folder of plain files: one jsonl a split and ``data.json`` for the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from softprompt_core.data.report import DataReport
from softprompt_core.data.task_data import SPLITS, Example, TaskData
from softprompt_core.errors import InvalidInput
from softprompt_core.json_files import link_or_copy, replacing

_REST = "data.json"
_EXAMPLE = TypeAdapter(Example)


class _Rest(BaseModel):
    labels: tuple[str, ...]
    fingerprint: str
    report: DataReport
    input_example: dict[str, Any]
    columns: tuple[str, ...]


def save_task_data(data: TaskData, folder: Path) -> None:
    """Write the folder; files of an earlier save are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        rows = ({"id": e.id, "input": e.input, "target": e.target, "slices": sorted(e.slices)} for e in data.splits[split])
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        _write(folder / f"{split}.jsonl", text)
    rest = _Rest.model_validate(data, from_attributes=True)
    _write(folder / _REST, json.dumps(rest.model_dump(mode="json"), ensure_ascii=False, indent=2) + "\n")


def share_task_data(saved: Path, folder: Path) -> None:
    """Put what ``save_task_data`` wrote into another folder as well, where the file system allows it without taking space."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*(f"{split}.jsonl" for split in SPLITS), _REST):
        with replacing(folder / name) as partial:
            link_or_copy(saved / name, partial)


def load_task_data(folder: Path) -> TaskData:
    """Read what ``save_task_data`` wrote; equal to what was saved.

    Raises:
        InvalidInput: a file is missing or broken.
    """
    try:
        rest = _Rest.model_validate_json((folder / _REST).read_bytes())
        return TaskData(splits={split: _examples(folder / f"{split}.jsonl") for split in SPLITS}, **dict(rest))
    except (OSError, ValueError) as error:
        do = "prepare the data again"
        raise InvalidInput(f"is not a folder of prepared data: {error!r}", where=str(folder), do=do) from None


def _write(path: Path, text: str) -> None:
    # Replaced, never written into: another folder may share the file, and another process may be reading it.
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def _examples(path: Path) -> tuple[Example, ...]:
    return tuple(_EXAMPLE.validate_json(line) for line in path.read_bytes().split(b"\n") if line)
