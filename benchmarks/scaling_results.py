"""What is measured about many tasks, as it lies in the results file between the parts of a measurement."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict


class Command(BaseModel):
    """One command: seconds, and the peak of its resident memory in bytes."""

    model_config = ConfigDict(frozen=True)

    seconds: float
    cpu: float
    peak: int
    out: str


class Registered(BaseModel):
    """What registrations cost: seconds of every step and CPU seconds of every task; requests, bytes and files of one task."""

    model_config = ConfigDict(frozen=True)

    tasks: int
    seconds: Mapping[str, Sequence[float]]
    cpu: Sequence[float]
    with_evidence: Mapping[str, Sequence[float]]
    requests: float
    database: float = 0.0
    files: float = 0.0
    file_bytes: float = 0.0
    database_with_evidence: float = 0.0
    files_with_evidence: float = 0.0
    file_bytes_with_evidence: float = 0.0

    def whole(self, part: slice = slice(None)) -> float:
        """Median seconds of all steps together."""
        return _whole(self.seconds, part)

    @property
    def evidence(self) -> float:
        """Seconds that the reports, figures and tables of one task add."""
        return max(0.0, _whole(self.with_evidence, slice(None)) - self.whole())


class Results(BaseModel):
    """Everything that was measured. ``few``: the same command over ``small`` tasks or none, for what it costs to start."""

    tasks: int
    registered: dict[str, Registered] = {}
    status: dict[str, Command] = {}
    fleet: dict[str, Command] = {}
    deploys: dict[str, Command] = {}
    few: dict[str, Command] = {}
    small: int = 0
    minutes: float = 0.0
    scheduled: int = 0
    scheduler_seconds: float = 0.0
    prefect_bytes: int = 0


def _whole(seconds: Mapping[str, Sequence[float]], part: slice) -> float:
    return statistics.median(sum(steps) for steps in list(zip(*seconds.values(), strict=True))[part])
