"""What can be read of models, versions and runs, however MLflow is reached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

PAGE_SIZE = 1000
"""Results of one request; MLflow's searches answer in pages."""


@dataclass(frozen=True)
class StoredModel:
    """A registered model as MLflow has it. ``aliases``: alias → version."""

    name: str
    tags: Mapping[str, str]
    aliases: Mapping[str, int]


@dataclass(frozen=True)
class StoredVersion:
    """A version as MLflow has it, unfinished ones and those of others included.

    ``created`` is UTC. ``aliases`` is None where many versions were read at once: those of their model tell.
    """

    name: str
    version: int
    run_id: str
    created: datetime
    tags: Mapping[str, str]
    description: str
    aliases: tuple[str, ...] | None = None


@dataclass(frozen=True)
class StoredRun:
    """A run as MLflow has it. ``start_time`` and ``end_time`` are UTC; a run that has not ended has no end."""

    run_id: str
    experiment_id: str
    name: str
    status: str
    start_time: datetime
    end_time: datetime | None
    tags: Mapping[str, str]

    @property
    def is_running(self) -> bool:
        return self.status == "RUNNING"


class Reader(Protocol):
    """Reads what is committed at the time of each call. Errors are those of MLflow or of its database."""

    def models(self) -> list[StoredModel]:
        """All registered models; entries of the prompt registry, which shares their names, are left out."""

    def model(self, name: str) -> StoredModel | None:
        """One registered model; None where there is none, or only a prompt of that name."""

    def has_prompt(self, name: str) -> bool:
        """Whether the prompt registry has an entry of that name."""

    def versions(self, name: str | None = None) -> list[StoredVersion]:
        """Versions of one model or of all; deleted ones and those of prompts are left out."""

    def version(self, name: str, version: int) -> StoredVersion | None:
        """One version; None where there is none, or it was deleted."""

    def experiment_pages(self) -> Iterator[list[str]]:
        """Ids of all tasks' experiments, a thousand at a time: databases take no query over any number of them."""

    def runs(self, experiments: Sequence[str], status: str, *, newest: int | None = None) -> list[StoredRun]:
        """Runs of these experiments, the newest first, deleted ones left out.

        Args:
            status: ``RUNNING`` and the like, or ``!FINISHED`` for every other one.
            newest: no more than so many.
        """

    def tagged_runs(self, experiments: Sequence[str], tag: str, value: str) -> list[StoredRun]:
        """Runs of these experiments with that value of a tag, deleted ones left out."""

    def run(self, run_id: str) -> StoredRun | None:
        """One run; None when there is none, or it was deleted."""


def moment(milliseconds: int) -> datetime:
    """A time as MLflow stores it, in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
