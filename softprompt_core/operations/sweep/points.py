"""A sweep's points, made ready and trained in groups; each group shares one base and its tokenized inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softprompt_core.errors import Diverged, InvalidInput, SoftpromptError
from softprompt_core.lifecycle.resolve import ResolvedTask, resolve_all
from softprompt_core.lifecycle.trained import TrainedSeed
from softprompt_core.spec.grid import GridPoint

if TYPE_CHECKING:
    from softprompt_core.lifecycle.train import OnProgress


@dataclass(frozen=True)
class SweepPoint:
    """One combination of settings with its resolved task."""

    grid: GridPoint
    task: ResolvedTask

    @property
    def name(self) -> str:
        return self.grid.name

    @property
    def settings(self) -> Mapping[str, Any]:
        """Dotted key → value."""
        return self.grid.settings


@dataclass(frozen=True)
class TrainedPoint:
    """The seeds of a point that gave a finite prompt; without any, the reason."""

    seeds: tuple[TrainedSeed, ...]
    reason: str = ""


def resolve_points(points: Sequence[GridPoint]) -> list[SweepPoint]:
    """Data and fingerprints of all points.

    Raises:
        InvalidInput: as ``resolve``; or two points would train the very same prompt.
    """
    tasks = resolve_all([point.spec for point in points])
    first: dict[str, GridPoint] = {}
    for point, task in zip(points, tasks, strict=True):
        other = first.setdefault(task.fingerprints.training, point)
        if other is not point:
            raise InvalidInput(
                f"trains the same prompt as {other.name}",
                where=f"--grid {point.name}",
                do="sweep settings that training reads; slices, for one, are looked at only afterwards",
            )
    return [SweepPoint(point, task) for point, task in zip(points, tasks, strict=True)]


def groups(points: Sequence[SweepPoint]) -> list[list[int]]:
    """Indices of the points that can train together, in the order of their first ones."""
    from softprompt_core.lifecycle.tokenized import TokenizationKey

    by_source: dict[TokenizationKey, list[int]] = {}
    for index, point in enumerate(points):
        by_source.setdefault(TokenizationKey.of(point.task), []).append(index)
    return list(by_source.values())


def check_points(points: Sequence[SweepPoint], champion: Path | None) -> int:
    """Find out whether every point can train, without training; returns the number of validation rows that checks look at.

    Raises:
        InvalidInput: a prompt or the texts do not fit the base; names the point.
    """
    from softprompt_core.lifecycle.train import check, checked_rows

    rows = 0
    for group in groups(points):
        for point in (points[index] for index in group):
            try:
                check(point.task, champion)
            except SoftpromptError as error:
                where = ": ".join(filter(None, (f"--grid {point.name}", error.where)))
                raise type(error)(error.what, where=where, do=error.do) from None
        rows = max(rows, checked_rows(points[group[0]].task))
    return rows


def train_points(
    points: Sequence[SweepPoint], champion: Path | None, on_progress: OnProgress | None = None
) -> list[TrainedPoint]:
    """Train the points of one group together. What is finished, here or in an earlier run, is not trained again.

    Raises:
        InvalidInput: a prompt or the texts do not fit the base.
    """
    from softprompt_core.lifecycle.train import train_together

    results = train_together([point.task for point in points], champion=champion, on_progress=on_progress)
    return [TrainedPoint((), str(result)) if isinstance(result, Diverged) else TrainedPoint(tuple(result)) for result in results]


def axes(points: Sequence[SweepPoint]) -> dict[str, list[Any]]:
    """Dotted key → the values that the points have, in order."""
    grid: dict[str, list[Any]] = {}
    for point in points:
        for key, value in point.settings.items():
            values = grid.setdefault(key, [])
            if value not in values:
                values.append(value)
    return grid
