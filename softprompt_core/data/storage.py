"""``TaskData`` in a folder of plain files: one jsonl a split and ``data.json`` for the rest."""

from __future__ import annotations

import json
from pathlib import Path

from softprompt_core.data.report import DataReport
from softprompt_core.data.task_data import SPLITS, Example, TaskData
from softprompt_core.errors import InvalidInput


def save_task_data(data: TaskData, folder: Path) -> None:
    """Write the folder; files of an earlier save are replaced."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        rows = ({"id": e.id, "input": e.input, "target": e.target, "slices": sorted(e.slices)} for e in data.splits[split])
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8", newline="\n")
    rest = {
        "labels": list(data.labels),
        "fingerprint": data.fingerprint,
        "report": data.report.to_json(),
        "input_example": dict(data.input_example),
        "columns": list(data.columns),
    }
    (folder / "data.json").write_text(json.dumps(rest, ensure_ascii=False, indent=2) + "\n", encoding="utf-8", newline="\n")


def load_task_data(folder: Path) -> TaskData:
    """Read what ``save_task_data`` wrote; equal to what was saved.

    Raises:
        InvalidInput: a file is missing or broken.
    """
    folder = Path(folder)
    try:
        rest = json.loads((folder / "data.json").read_text(encoding="utf-8"))
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
