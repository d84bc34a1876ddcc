"""A sweep as one figure: the validation metric against what was varied, every seed a dot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from softprompt_core.report.figures import figure_of, plain, tidy
from softprompt_core.spec.grid import as_text, settings_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # Okabe & Ito
_MOST_RANKED = 40
_LOG_FROM = 10  # largest over smallest value


@dataclass(frozen=True)
class SweepDots:
    """One point of a sweep.

    Attributes:
        seeds: validation metric of each; empty where training diverged.
        mark: what the point is, if anything, like ``best``.
    """

    settings: Mapping[str, Any]
    seeds: Sequence[float]
    mean: float
    error: float | None
    mark: str = ""


def sweep_figure(grid: Mapping[str, Sequence[Any]], points: Sequence[SweepDots], *, metric: str) -> Figure:
    """One varied setting: a curve. Two: a line for each value of the shorter one, or a heat map of many. More: a ranking.

    Args:
        grid: setting → its values, in order.
        points: in any order.
        metric: what was compared, higher is better.
    """
    varied = {key: values for key, values in grid.items() if len(values) > 1} or dict(list(grid.items())[:1])
    if len(varied) > 2:
        return _ranking(points, metric)
    long, *others = sorted(varied, key=lambda key: -len(varied[key]))
    short = others[0] if others else None
    if short is not None and len(varied[short]) > len(_COLOURS):
        return _heat_map(varied, short, long, points, metric)
    figure = figure_of(7, 4)
    axes = figure.subplots()
    positions = _scale(axes, varied[long])
    for value, colour in zip(varied[short] if short else [None], _COLOURS, strict=False):
        series = [(positions[as_text(p.settings[long])], p) for p in points if short is None or p.settings[short] == value]
        label = plain(f"{short} {as_text(value)}", 40) if short else "mean of the seeds"
        # A line between values that have no order would say that there is something in between.
        _line(axes, series, colour, label, style="-" if _numeric(varied[long]) else "")
    _band(axes, points)
    axes.set_xlabel(plain(long, 60))
    axes.legend(framealpha=0.9, edgecolor="none", fontsize=8)
    tidy(axes, f"Validation {plain(metric)} (dots: seeds; bars: standard error)")
    return figure


def _line(axes: Axes, points: Sequence[tuple[float, SweepDots]], colour: str, label: str, style: str) -> None:
    trained = sorted(((x, point) for x, point in points if point.seeds), key=lambda pair: pair[0])
    bars = [point.error or 0.0 for _, point in trained]
    xs, means = [x for x, _ in trained], [point.mean for _, point in trained]
    axes.errorbar(xs, means, yerr=bars, color=colour, linestyle=style, linewidth=1.2, elinewidth=1, capsize=3, label=label)
    for x, point in trained:
        axes.plot([x] * len(point.seeds), point.seeds, linestyle="", marker="o", markersize=4, color=colour, alpha=0.6)
        if point.mark:
            axes.plot([x], [point.mean], linestyle="", marker="*", markersize=13, color=colour, markeredgecolor="black")
            axes.annotate(point.mark, (x, point.mean), xytext=(7, 7), textcoords="offset points", fontsize=8)


def _band(axes: Axes, points: Sequence[SweepDots]) -> None:
    best = next((point for point in points if point.mark.startswith("best")), None)
    if best is not None and best.error:
        axes.axhspan(best.mean - best.error, best.mean, color="#999999", alpha=0.2, label="within one standard error of the best")


def _scale(axes: Axes, values: Sequence[Any]) -> dict[str, float]:
    """Sets up the x-axis: values to scale, logarithmic where they span much; anything else in order."""
    if not _numeric(values):
        axes.set_xticks(range(len(values)), [plain(as_text(value)) for value in values])
        axes.margins(x=0.15)
        return {as_text(value): float(index) for index, value in enumerate(values)}
    if min(values) > 0 and max(values) >= _LOG_FROM * min(values):
        axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.set_xticks([], minor=True)
    axes.margins(x=0.1)
    return {as_text(value): float(value) for value in values}


def _numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _heat_map(varied: Mapping[str, Sequence[Any]], down: str, across: str, points: Sequence[SweepDots], metric: str) -> Figure:
    rows, columns = varied[down], varied[across]
    by_setting = {(as_text(point.settings[down]), as_text(point.settings[across])): point for point in points}
    figure = figure_of(2.5 + 0.75 * len(columns), 1.8 + 0.4 * len(rows))
    axes = figure.subplots()
    cells = [[by_setting[as_text(row), as_text(column)] for column in columns] for row in rows]
    values = [[cell.mean if cell.seeds else math.nan for cell in line] for line in cells]
    image = axes.imshow(values, cmap="viridis", aspect="auto")
    figure.colorbar(image, ax=axes, label=f"validation {plain(metric)}")
    means = [cell.mean for line in cells for cell in line if cell.seeds] or [0.0]
    bright = min(means) + 0.6 * (max(means) - min(means))
    for y, line in enumerate(cells):
        for x, cell in enumerate(line):
            words = f"{cell.mean:.3g}" if cell.seeds else "diverged"
            star = {"": "", "b": " ★"}.get(cell.mark[:1], " ☆")
            colour = "white" if cell.seeds and cell.mean < bright else "black"
            axes.text(x, y, f"{words}{star}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(columns)), [plain(as_text(value)) for value in columns], fontsize=8)
    axes.set_yticks(range(len(rows)), [plain(as_text(value)) for value in rows], fontsize=8)
    axes.set_xlabel(plain(across, 60))
    axes.set_ylabel(plain(down, 60))
    axes.set_title(f"Validation {plain(metric)}, ★ best, ☆ shortest within one standard error of it", loc="left", fontsize=10)
    return figure


def _ranking(points: Sequence[SweepDots], metric: str) -> Figure:
    ranked = sorted((point for point in points if point.seeds), key=lambda point: -point.mean)
    shown = ranked[:_MOST_RANKED]
    figure = figure_of(9, 1.4 + 0.26 * max(3, len(shown)))
    axes = figure.subplots()
    for row, point in enumerate(shown):
        colour = "#D55E00" if point.mark else "#0072B2"
        axes.errorbar([point.mean], [row], xerr=[point.error or 0.0], color=colour, marker="o", markersize=5, capsize=2)
        axes.plot(point.seeds, [row] * len(point.seeds), linestyle="", marker="o", markersize=3, color=colour, alpha=0.5)
    names = [plain(settings_name(point.settings), 70) + (f"  ({point.mark})" if point.mark else "") for point in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=8)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    more = f", the first {len(shown)} of {len(ranked)}" if len(shown) < len(ranked) else ""
    tidy(axes, f"Validation {plain(metric)}{more} (dots: seeds; bars: standard error)", grid="x")
    return figure
