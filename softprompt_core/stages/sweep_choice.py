"""Which point of a sweep is best, and which a careful reader would take. Validation rows alone decide; test rows are not read."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from softprompt_core.errors import Outcome
from softprompt_core.spec.grid import GridPoint, settings_name
from softprompt_core.stages.trained import Trained, facts


@dataclass(frozen=True)
class PointResult:
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

    settings: Mapping[str, Any]
    length: int
    seeds: Sequence[float] = ()
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
    def of(cls, point: GridPoint, trained: Sequence[Trained], reason: str) -> PointResult:
        """``trained``: the seeds that gave a finite prompt; ``reason``: why none did."""
        length, wanted = point.spec.prompt.length, point.spec.training.seeds
        if not trained:
            return cls(point.settings, length, diverged_seeds=wanted, reason=reason)
        scores = [one.metric for one in trained]
        return cls(
            settings=point.settings,
            length=length,
            seeds=scores,
            metric=statistics.fmean(scores),
            error=standard_error(scores, [one.error for one in trained]),
            loss=statistics.fmean(one.loss for one in trained),
            steps=max(facts(one)["steps"] for one in trained),
            seconds=max(one.seconds for one in trained),
            diverged_seeds=wanted - len(trained),
        )


def standard_error(scores: Sequence[float], errors: Sequence[float | None]) -> float | None:
    """Of the mean of several seeds that were scored on the same rows; None where it is not known.

    The rows' part does not shrink with more seeds, since all look at the same rows; the seeds' part does.
    """
    known = [error for error in errors if error is not None]
    if len(known) < len(errors):
        return None
    rows = statistics.fmean(error**2 for error in known)
    seeds = statistics.variance(scores) / len(scores) if len(scores) > 1 else 0.0
    return math.sqrt(rows + seeds)


@dataclass(frozen=True)
class SweepResult:
    """A whole sweep, for the terminal, ``--json`` and Prefect.

    Attributes:
        outcome: None when at least one point gave a prompt.
        points: in the grid's order.
        best: place of the point with the highest metric; None when all diverged.
        frugal: place of the shortest prompt within one standard error of it.
        chosen: place of the one that was asked for, one of the two.
        spec: the chosen point's whole spec.
    """

    task: str
    outcome: Outcome | None
    reason: str
    metric: str = ""
    rows: int = 0
    points: Sequence[PointResult] = ()
    best: int | None = None
    frugal: int | None = None
    chosen: int | None = None
    spec: Mapping[str, Any] = field(default_factory=dict)
    run_id: str | None = None
    run_url: str | None = None
    prefect_url: str | None = None
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        return self.outcome.exit_code if self.outcome else 0

    @property
    def words(self) -> str:
        return self.outcome.value if self.outcome else "swept"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "outcome": self.words, "exit_code": self.exit_code}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SweepResult:
        known = {key: part for key, part in value.items() if key != "exit_code"}
        outcome = None if value["outcome"] == "swept" else Outcome(value["outcome"])
        return cls(**{**known, "outcome": outcome, "points": [PointResult(**point) for point in value["points"]]})


def choose(points: Sequence[PointResult]) -> tuple[int, int] | None:
    """Places of the best point and of the frugal one; None when all diverged.

    Best: highest metric, then lowest loss, then the shorter prompt, then the earlier point. Frugal: of the points whose metric is
    at most one standard error (the best's) below the best's, the shortest prompt, then the best metric: the one-standard-error
    rule of Breiman, Friedman, Olshen & Stone (1984).
    """
    finite = [place for place, point in enumerate(points) if point.metric is not None]
    if not finite:
        return None

    def merit(place: int) -> tuple[float, float, int, int]:
        point = points[place]
        assert point.metric is not None and point.loss is not None
        return point.metric, -point.loss, -point.length, -place

    best = max(finite, key=merit)
    return best, max(within(points, best), key=lambda place: (-points[place].length, *merit(place)))


def within(points: Sequence[PointResult], best: int) -> list[int]:
    """Places of the points at most one standard error below the best, itself included."""
    top, error = points[best].metric, points[best].error or 0.0
    assert top is not None
    return [place for place, point in enumerate(points) if point.metric is not None and point.metric >= top - error]


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
    """Places of the points, the best first and the diverged last."""

    def merit(place: int) -> tuple[float, float, int]:
        point = result.points[place]
        return (point.metric, -(point.loss or 0.0), -point.length) if point.metric is not None else (float("-inf"), 0.0, 0)

    return sorted(range(len(result.points)), key=merit, reverse=True)


def mark(result: SweepResult, place: int) -> str:
    """What a point is, if anything."""
    names = {"best": result.best, "one standard error": result.frugal if result.frugal != result.best else None}
    return ", ".join(name for name, where in names.items() if where == place)
