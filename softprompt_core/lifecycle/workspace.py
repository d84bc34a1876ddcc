"""Where a lifecycle keeps its files while it runs: one folder a task and training fingerprint. Safe to delete at any time."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from softprompt_core import settings


@dataclass(frozen=True)
class Workspace:
    """Paths below one folder; nothing is made before it is written."""

    folder: Path

    @classmethod
    def of(cls, name: str, fingerprint: str) -> Workspace:
        return cls(settings.home() / "work" / name / fingerprint[:16])

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def checkpoint(self, seed: int) -> Path:
        return self.folder / f"checkpoint-{seed}.safetensors"

    def prompt(self, seed: int) -> Path:
        return self.folder / f"prompt-{seed}.safetensors"

    def training(self, seed: int) -> Path:
        """Settings, history and scores of a finished training."""
        return self.folder / f"training-{seed}.json"

    @property
    def version(self) -> Path:
        """What a version will hold; of this process alone, since two processes may run one spec."""
        return self.folder / f"version-{os.getpid()}"

    def champion(self, version: int) -> Path:
        """Files of a champion; of this process alone as well."""
        return self.folder / f"champion-{version}-{os.getpid()}"

    def clear(self) -> None:
        """Delete what is of this process alone."""
        for folder in (self.version, *self.folder.glob(f"champion-*-{os.getpid()}")):
            shutil.rmtree(folder, ignore_errors=True)
