"""The gate report as one figure: what everyone scored, and by how much the candidate is ahead, with intervals."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

from softprompt_core.evaluation import Predictions, slice_rows
from softprompt_core.report.figures import COLOURS, figure_of, plain, tidy
from softprompt_core.report.intervals import advantage, interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_SLICES = 20
_GOOD, _BAD, _OPEN = "#009E73", "#D55E00", "#555555"


def gate_figure(
    scorers: Mapping[str, Predictions], *, metric: str, reference: str | None, title: str, required: float | None = None
) -> Figure:
    """Left: every scorer's value on all test rows. Right: the candidate's advantage over ``reference``, by slice.

    Args:
        scorers: name → answers, the candidate among them.
        metric: what both panels show.
        reference: a name in ``scorers``; None draws the left panel alone.
        title: the verdict; may be empty.
        required: the advantage on all rows that a gate asks for, drawn as a line.
    """
    candidate = scorers["candidate"]
    slices = [name for name in candidate.slices if len(slice_rows(candidate, name))][:_MOST_SLICES] if reference else []
    figure = figure_of(10 if reference else 5.5, max(2.6, 1.5 + 0.34 * max(len(scorers), len(slices) + 1)))
    if title:
        figure.suptitle("\n".join(textwrap.wrap(plain(title, 400), 110 if reference else 60)), x=0.01, ha="left", fontsize=10)
    panels = figure.subplots(1, 2 if reference else 1, squeeze=False, width_ratios=[2, 3] if reference else [1])[0]
    _values(panels[0], scorers, metric)
    if reference is not None:
        _advantages(panels[1], candidate, scorers[reference], metric, slices, required)
    return figure


def _values(axes: Axes, scorers: Mapping[str, Predictions], metric: str) -> None:
    names = list(scorers)
    for place, name in enumerate(names):
        found = interval(scorers[name], metric)
        if found is not None:
            _dot(axes, place, found, COLOURS.get(name, "#CC79A7"), f"{found[0]:.3g}")
    _rows(
        axes, [plain(name.replace("_", " ")) for name in names], f"{plain(metric)} on the {len(scorers['candidate'])} test rows"
    )


def _advantages(
    axes: Axes, candidate: Predictions, reference: Predictions, metric: str, slices: list[str], required: float | None
) -> None:
    groups: list[str | None] = [None, *slices]
    names = []
    for place, group in enumerate(groups):
        found = advantage(candidate, reference, metric, slice=group)
        names.append(f"{plain(group or 'all rows')} ({len(slice_rows(candidate, group))})")
        if found is not None:
            colour = _GOOD if found[1] > 0 else _BAD if found[2] < 0 else _OPEN
            _dot(axes, place, found, colour, f"{found[0]:+.3g}")
    axes.axvline(0, color="black", linewidth=1)
    if required is not None:
        axes.axvline(required, color="black", linewidth=1, linestyle=":", label=f"a gate asks for {required:+g}")
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.14))
    _rows(axes, names, f"Candidate's advantage over {plain(reference.scorer.replace('_', ' '))} (right: better)")


def _dot(axes: Axes, place: int, found: tuple[float, float, float], colour: str, words: str) -> None:
    value, low, high = found
    axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
    axes.plot([value], [place], marker="o", color=colour, markersize=6)
    axes.annotate(words, (value, place), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8)


def _rows(axes: Axes, names: list[str], title: str) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.4, -0.7)
    axes.margins(x=0.08)
    tidy(axes, title, grid="x")
