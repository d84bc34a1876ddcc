"""The figure of a sweep, as a reader sees it."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from softprompt_core.report.sweep_figure import SweepDots, sweep_figure


def dots(grid: dict[str, list[Any]]) -> list[SweepDots]:
    points = []
    for index, values in enumerate(itertools.product(*grid.values())):
        mark = "best" if index == 1 else ""
        seeds: Sequence[float] = () if index == 0 else (0.5 + index / 100, 0.6 + index / 100)
        points.append(SweepDots(dict(zip(grid, values, strict=True)), seeds, 0.55 + index / 100, 0.02, mark))
    return points


LENGTHS = [1, 5, 20, 100]


@pytest.mark.parametrize(
    ("grid", "labels", "scale"),
    [
        ({"prompt.length": LENGTHS}, {"mean of the seeds"}, "log"),
        ({"prompt.length": LENGTHS, "training.max_steps": [9]}, {"mean of the seeds"}, "log"),
        ({"prompt.init": ["labels", "uniform"]}, {"mean of the seeds"}, "linear"),
        ({"training.learning_rate": [0.1, "auto"]}, {"mean of the seeds"}, "linear"),
        (
            {"prompt.length": LENGTHS, "prompt.init": ["labels", "uniform"]},
            {"prompt.init labels", "prompt.init uniform"},
            "log",
        ),
    ],
)
def test_one_or_two_settings_are_curves(grid: dict[str, list[Any]], labels: set[str], scale: str) -> None:
    (axes,) = sweep_figure(grid, dots(grid), metric="accuracy").axes
    entries = {text.get_text() for text in axes.get_legend().get_texts()}
    assert entries == labels | {"within one standard error of the best"}
    assert axes.get_xscale() == scale and [t.get_text() for t in axes.texts] == ["best"]


def test_many_values_of_two_settings_are_a_heat_map_and_a_diverged_point_is_named() -> None:
    grid = {"prompt.length": list(range(1, 8)), "training.learning_rate": [n / 10 for n in range(1, 9)]}
    axes, _ = sweep_figure(grid, dots(grid), metric="accuracy").axes
    words = [text.get_text() for text in axes.texts]
    assert len(words) == 56 and words.count("diverged") == 1 and sum("★" in word for word in words) == 1


def test_three_settings_are_a_ranking_best_first() -> None:
    grid = {"prompt.length": LENGTHS, "prompt.init": ["labels", "uniform"], "training.seed": [0, 1]}
    figure = sweep_figure(grid, dots(grid), metric="accuracy")
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(names) == 15 and names[0] == "prompt.length=100 prompt.init=uniform training.seed=1"
    figure.savefig(io.BytesIO())
