"""The gate report as one figure: what everyone scored, and by how much the candidate is ahead, with the gates' own bounds."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from softprompt_core.gates import Advantage, Assessment
from softprompt_core.report.figures import colour_of, figure_of, plain, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_SLICES = 20
_GOOD, _BAD, _OPEN = "#009E73", "#D55E00", "#555555"


def gate_figure(assessment: Assessment, *, title: str = "", required: float | None = None) -> Figure:
    """Left: every scorer's headline metric on all test rows. Right: the candidate's advantage over the reference, by slice.

    Args:
        title: the verdict; may be empty.
        required: the advantage on all rows that a gate asks for, drawn as a line.
    """
    advantages = dict(list(assessment.advantages.items())[: _MOST_SLICES + 1])
    figure = figure_of(10, max(2.6, 1.7 + 0.34 * max(len(assessment.scores), len(advantages))))
    if title:
        figure.suptitle("\n".join(textwrap.wrap(plain(title, 400), 110)), x=0.01, ha="left", fontsize=10)
    left, right = figure.subplots(1, 2, width_ratios=[2, 3])
    _draw_values(left, assessment)
    _draw_advantages(right, assessment, advantages, required)
    return figure


def _draw_values(axes: Axes, assessment: Assessment) -> None:
    scores = assessment.scores
    for row, (name, value) in enumerate(scores.items()):
        _draw_point(axes, row, value, colour_of(name), f"{value:.3g}")
    names = [plain(name.replace("_", " ")) for name in scores]
    _label_rows(axes, names, f"{plain(assessment.headline)} on the {len(assessment.results.candidate)} test rows")


def _draw_advantages(axes: Axes, assessment: Assessment, advantages: dict[str | None, Advantage], required: float | None) -> None:
    for row, advantage in enumerate(advantages.values()):
        colour = _GOOD if advantage.lower > 0 else _BAD if advantage.upper < 0 else _OPEN
        axes.plot([advantage.lower, advantage.upper], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
        _draw_point(axes, row, advantage.value, colour, f"{advantage.value:+.3g}")
    axes.axvline(0, color="black", linewidth=1)
    if required is not None:
        axes.axvline(required, color="black", linewidth=1, linestyle=":")
    sizes = assessment.slice_sizes
    names = [
        f"all rows ({len(assessment.results.candidate)})" if name is None else f"{plain(name)} ({sizes[name]})"
        for name in advantages
    ]
    reference = plain(assessment.reference.replace("_", " "))
    _label_rows(axes, names, f"Candidate's advantage over {reference} (right: better)")
    axes.set_xlabel(_legend(list(advantages.values()), required), fontsize=8)


def _legend(advantages: Sequence[Advantage], required: float | None) -> str:
    levels = " or ".join(f"{level:g} %" for level in sorted({100 * advantage.confidence for advantage in advantages}))
    bars = [f"bars: lower and upper bound, each one-sided at {levels} confidence"] if levels else []
    return "\n".join([*bars, *([f"dotted line: a gate asks for {required:+g}"] if required is not None else [])])


def _draw_point(axes: Axes, row: int, value: float, colour: str, words: str) -> None:
    axes.plot([value], [row], marker="o", color=colour, markersize=6)
    axes.annotate(words, (value, row), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8)


def _label_rows(axes: Axes, names: Sequence[str], title: str) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.4, -0.7)
    axes.margins(x=0.08)
    tidy(axes, title, grid="x")
