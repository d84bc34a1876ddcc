"""``TaskData`` in a folder of plain files: one jsonl a split and ``data.json`` for the rest."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from softprompt_core.data.report import DataReport
from softprompt_core.data.task_data import SPLITS, Example, TaskData
from softprompt_core.errors import InvalidInput

_REST = "data.json"


def save_task_data(data: TaskData, folder: Path) -> None:
    """Write the folder; files of an earlier save are replaced."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        rows = ({"id": e.id, "input": e.input, "target": e.target, "slices": sorted(e.slices)} for e in data.splits[split])
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        _write(folder / f"{split}.jsonl", text)
    rest = {
        "labels": list(data.labels),
        "fingerprint": data.fingerprint,
        "report": data.report.to_json(),
        "input_example": dict(data.input_example),
        "columns": list(data.columns),
    }
    _write(folder / _REST, json.dumps(rest, ensure_ascii=False, indent=2) + "\n")


def share_task_data(saved: Path, folder: Path) -> None:
    """Put what ``save_task_data`` wrote into another folder as well, where the file system allows it without taking space."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*(f"{split}.jsonl" for split in SPLITS), _REST):
        partial = folder / f"{name}.partial"
        partial.unlink(missing_ok=True)
        try:
            os.link(saved / name, partial)
        except OSError:
            shutil.copyfile(saved / name, partial)
        partial.replace(folder / name)


def _write(path: Path, text: str) -> None:
    # Replaced, never written into: another folder may share the file, and another process may be reading it.
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    partial.write_text(text, encoding="utf-8", newline="\n")
    partial.replace(path)


def load_task_data(folder: Path) -> TaskData:
    """Read what ``save_task_data`` wrote; equal to what was saved.

    Raises:
        InvalidInput: a file is missing or broken.
    """
    folder = Path(folder)
    try:
        rest = json.loads((folder / _REST).read_text(encoding="utf-8"))
        return TaskData(
            splits={split: _examples(folder / f"{split}.jsonl") for split in SPLITS},
            labels=tuple(rest["labels"]),
            fingerprint=rest["fingerprint"],
            report=DataReport.from_json(rest["report"]),
            input_example=rest["input_example"],
            columns=tuple(rest["columns"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        do = "prepare the data again"
        raise InvalidInput(f"is not a folder of prepared data: {error!r}", where=str(folder), do=do) from None


def _examples(path: Path) -> tuple[Example, ...]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    return tuple(Example(row["id"], row["input"], row["target"], frozenset(row["slices"])) for row in rows)
