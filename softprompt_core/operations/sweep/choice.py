"""Which point of a sweep is best, and which a careful reader would take. Validation rows alone decide; test rows are not read."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, computed_field, field_serializer, field_validator

from softprompt_core.errors import Outcome
from softprompt_core.lifecycle.trained import TrainedSeed
from softprompt_core.spec.grid import GridPoint, settings_name

_SWEPT = "swept"


class PointResult(BaseModel):
    """One point: what came out on the validation rows.

    Attributes:
        length: number of vectors.
        seeds: validation metric of every seed that gave a finite prompt; empty: the point diverged, and ``reason`` says how.
        metric: their mean; NaN-free, None where there is none.
        error: standard error of ``metric``: of the validation rows and, with several seeds, of the seeds.
        loss: mean validation loss.
        steps: optimiser steps, of the seed that took most.
        seconds: until all seeds were done; the points of a joint training share their time.
    """

    model_config = ConfigDict(frozen=True)

    settings: Mapping[str, Any]
    length: int
    seeds: tuple[float, ...] = ()
    metric: float | None = None
    error: float | None = None
    loss: float | None = None
    steps: int = 0
    seconds: float = 0.0
    diverged_seeds: int = 0
    reason: str = ""

    @property
    def name(self) -> str:
        return settings_name(self.settings)

    @classmethod
    def of(cls, point: GridPoint, trained: Sequence[TrainedSeed], reason: str) -> PointResult:
        """``trained``: the seeds that gave a finite prompt; ``reason``: why none did."""
        length, seeds = point.spec.prompt.length, point.spec.training.seeds
        if not trained:
            return cls(settings=point.settings, length=length, diverged_seeds=seeds, reason=reason)
        scores = [seed.metric for seed in trained]
        return cls(
            settings=point.settings,
            length=length,
            seeds=tuple(scores),
            metric=statistics.fmean(scores),
            error=standard_error(scores, [seed.error for seed in trained]),
            loss=statistics.fmean(seed.loss for seed in trained),
            steps=max(seed.read_record()["steps"] for seed in trained),
            seconds=max(seed.seconds for seed in trained),
            diverged_seeds=seeds - len(trained),
        )


def standard_error(scores: Sequence[float], errors: Sequence[float | None]) -> float | None:
    """Of the mean of several seeds that were scored on the same rows; None where it is not known.

    The rows' part does not shrink with more seeds, since all look at the same rows; the seeds' part does.
    """
    squares = [error**2 for error in errors if error is not None]
    if len(squares) < len(errors):
        return None
    rows = statistics.fmean(squares)
    seeds = statistics.variance(scores) / len(scores) if len(scores) > 1 else 0.0
    return math.sqrt(rows + seeds)


class SweepResult(BaseModel):
    """A whole sweep, for the terminal, ``--json`` and Prefect.

    Attributes:
        outcome: None when at least one point gave a prompt; JSON says ``swept`` then.
        points: in the grid's order.
        best: index of the point with the highest metric; None when all diverged.
        frugal: index of the shortest prompt within one standard error of it.
        chosen: index of the one that was asked for, one of the two.
        spec: the chosen point's whole spec.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    task: str
    outcome: Outcome | None
    reason: str
    metric: str = ""
    rows: int = 0
    points: tuple[PointResult, ...] = ()
    best: int | None = None
    frugal: int | None = None
    chosen: int | None = None
    spec: Mapping[str, Any] = {}
    run_id: str | None = None
    run_url: str | None = None
    prefect_url: str | None = None
    seconds: float = 0.0

    @field_validator("outcome", mode="before")
    @classmethod
    def _read_outcome(cls, value: Any) -> Any:
        return None if value == _SWEPT else value

    @field_serializer("outcome", when_used="json")
    def _write_outcome(self, _: Outcome | None) -> str:
        return self.label

    @computed_field  # type: ignore[prop-decorator]
    @property
    def exit_code(self) -> int:
        return self.outcome.exit_code if self.outcome else 0

    @property
    def label(self) -> str:
        """The outcome as a command's last line says it."""
        return self.outcome.value if self.outcome else _SWEPT


def choose(points: Sequence[PointResult]) -> tuple[int, int] | None:
    """Indices of the best point and of the frugal one; None when all diverged.

    Best: highest metric, then lowest loss, then the shorter prompt, then the earlier point. Frugal: of the points whose metric is
    at most one standard error (the best's) below the best's, the shortest prompt, then the best metric: the one-standard-error
    rule of Breiman, Friedman, Olshen & Stone (1984).
    """
    finite = [index for index, point in enumerate(points) if point.metric is not None]
    if not finite:
        return None

    def merit(index: int) -> tuple[float, float, int, int]:
        point = points[index]
        assert point.metric is not None and point.loss is not None
        return point.metric, -point.loss, -point.length, -index

    best = max(finite, key=merit)
    return best, max(within(points, best), key=lambda index: (-points[index].length, *merit(index)))


def within(points: Sequence[PointResult], best: int) -> list[int]:
    """Indices of the points at most one standard error below the best, itself included."""
    top, error = points[best].metric, points[best].error or 0.0
    assert top is not None
    return [index for index, point in enumerate(points) if point.metric is not None and point.metric >= top - error]


def advice(points: Sequence[PointResult], best: int, frugal: int, rows: int) -> str:
    """One sentence for whoever has to choose."""
    close, top = len(within(points, best)) - 1, points[best]
    if top.error is None:
        return "How far the points can be told apart is not known: there is one validation row."
    size = f"{top.error:.3g}"
    if points[frugal].length < top.length:
        return (
            f"The shortest prompt within one standard error ({size}) of the best is {points[frugal].name}: by the "
            "one-standard-error rule take it, unless the difference is worth the longer prompt (--one-standard-error)."
        )
    if close:
        others = "One other point lies" if close == 1 else f"{close} other points lie"
        return f"{others} within one standard error ({size}) of the best: {rows} validation rows hardly tell them apart."
    return f"No other point comes within one standard error ({size}) of the best."


def in_order(result: SweepResult) -> list[int]:
    """Indices of the points, the best first and the diverged last."""

    def merit(index: int) -> tuple[float, float, int]:
        point = result.points[index]
        return (point.metric, -(point.loss or 0.0), -point.length) if point.metric is not None else (float("-inf"), 0.0, 0)

    return sorted(range(len(result.points)), key=merit, reverse=True)


def mark(result: SweepResult, index: int) -> str:
    """What a point is, if anything."""
    names = {"best": result.best, "one standard error": result.frugal if result.frugal != result.best else None}
    return ", ".join(name for name, point in names.items() if point == index)
