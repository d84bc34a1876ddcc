"""A version with all its evidence, brought from one store to be registered in another: two folders and a page of facts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from softprompt_core.evaluation.results import EVIDENCE_FILE
from softprompt_core.json_files import read_json, write_json
from softprompt_core.store.versions import ARTIFACT

_FACTS = "snapshot.json"


class Snapshot(BaseModel):
    """What a store says about a version, with its files beside it.

    Attributes:
        folder: where it lies; ``files`` is the whole model, ``artifacts`` everything that its run holds.
        store: address of the store, without passwords; ``store_id`` tells two stores apart.
        url: the version's page there.
        tags: of the version.
        compared_content: content of the champion whose answers are in the evidence; None for a first version, or where that
            champion is gone.
        run_id, run_name, run_tags, params: of its run.
        metrics: of its run: name → (value, time in ms, step).
    """

    model_config = ConfigDict(frozen=True)

    folder: Path = Field(exclude=True)
    task: str
    version: int
    store: str
    store_id: str
    url: str
    tags: Mapping[str, str]
    compared_content: str | None
    run_id: str
    run_name: str
    run_tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, tuple[tuple[float, int, int], ...]]

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
        """Write the facts; the last thing that makes a snapshot whole."""
        write_json(self.folder / _FACTS, self.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: Path) -> Snapshot:
        return cls.model_validate({**read_json(folder / _FACTS), "folder": folder})
