"""``TrackedRun``: a task's run in MLflow, as it is passed on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TrackedRun:
    """An MLflow run of a task.

    Attributes:
        url: its page.
        seeds: seed → the run that shows its training curve: this one, or with several seeds a child run each.
    """

    id: str
    experiment: str
    url: str
    seeds: Mapping[int, str] = field(default_factory=dict)
