"""Where a lifecycle keeps its files while it runs: one folder a task and training fingerprint. Safe to delete at any time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softprompt_core import settings


def home() -> Path:
    """The project's own folder, the setting ``home``: by default ``.softprompt`` in the current folder. Stores, work, locks."""
    return settings.current().home.expanduser().absolute()


@dataclass(frozen=True)
class Workspace:
    """Paths below one folder; nothing is made before it is written."""

    folder: Path

    @classmethod
    def of(cls, name: str, fingerprint: str) -> Workspace:
        return cls(home() / "work" / name / fingerprint[:16])

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def checkpoint(self, seed: int) -> Path:
        return self.folder / f"checkpoint-{seed}.safetensors"

    def prompt(self, seed: int) -> Path:
        return self.folder / f"prompt-{seed}.safetensors"

    def training(self, seed: int) -> Path:
        return self.folder / f"training-{seed}.json"

    @property
    def evidence(self) -> Path:
        return self.folder / "evidence.json"

    @property
    def version(self) -> Path:
        return self.folder / "version"


def write_json(path: Path, value: Any) -> None:
    """Write atomically: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(value, ensure_ascii=False, allow_nan=False), encoding="utf-8")
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
