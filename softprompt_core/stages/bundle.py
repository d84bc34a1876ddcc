"""A version with all its evidence, brought from one store to be registered in another: two folders and a page of facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from softprompt_core.registry.versions import ARTIFACT
from softprompt_core.stages.evidence import EVIDENCE_FILE
from softprompt_core.stages.workspace import read_json, write_json

_FACTS = "bundle.json"


@dataclass(frozen=True)
class Bundle:
    """What a store says about a version, with its files beside it.

    Attributes:
        folder: where it lies; ``files`` is the whole model, ``artifacts`` everything that its run holds.
        store: address of the store, without passwords; ``store_id`` tells two stores apart.
        url: the version's page there.
        tags: of the version.
        compared_content: content of the champion whose answers are in the evidence; None for a first version, or where that
            champion is gone.
        run: id and name of its run; ``run_tags``, ``params`` and ``metrics`` (name → (value, time in ms, step)) are that run's.
    """

    folder: Path
    task: str
    version: int
    store: str
    store_id: str
    url: str
    tags: Mapping[str, str]
    compared_content: str | None
    run: tuple[str, str]
    run_tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, Sequence[tuple[float, int, int]]]

    @property
    def files(self) -> Path:
        return self.folder / "files"

    @property
    def prompt(self) -> Path:
        """The folder with the soft prompt and the spec."""
        return self.files / "artifacts" / ARTIFACT

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    @property
    def evidence(self) -> Path:
        return self.artifacts / EVIDENCE_FILE

    def save(self) -> None:
        """Write the facts; the last thing that makes a bundle whole."""
        write_json(self.folder / _FACTS, {key: value for key, value in asdict(self).items() if key != "folder"})

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        found: dict[str, Any] = read_json(folder / _FACTS)
        return cls(folder=folder, **{**found, "run": tuple(found["run"])})
