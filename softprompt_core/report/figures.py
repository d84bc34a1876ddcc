"""Figures for the MLflow run page: matplotlib ``Figure`` objects, without pyplot and so without global state or a display."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from softprompt_core.data.report import WORD_BINS
from softprompt_core.gates import Assessment

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# One colour a scorer in every figure (Okabe & Ito's palette: told apart by colour-blind readers and in grey).
_COLOURS = {"candidate": "#0072B2", "champion": "#E69F00", "hard_prompt": "#009E73", "majority": "#999999"}
_SPLITS = ("#0072B2", "#E69F00", "#009E73")
_MOST_LABELS = 30
_MOST_ZEROS = 10


def learning_curve(history: Sequence[Mapping[str, float]], *, metric: str = "metric", best_step: int | None = None) -> Figure:
    """Training and validation loss, and the validation metric, by step; the chosen checkpoint is marked.

    Args:
        history: a mapping a validation check: ``step``, ``loss``, ``validation_loss``, ``validation_metric``; NaN leaves a gap.
        metric: what the validation metric is called.
        best_step: the step of the chosen checkpoint.
    """
    figure = figure_of(9, 3.4)
    losses, scores = figure.subplots(1, 2)
    steps = [entry["step"] for entry in history]
    curves = (
        (losses, "loss", "training (mean since last check)", "#999999"),
        (losses, "validation_loss", "validation", "#0072B2"),
        (scores, "validation_metric", "validation", "#0072B2"),
    )
    for axes, key, name, colour in curves:
        values = [entry.get(key, math.nan) for entry in history]
        axes.plot(steps, values, marker="o", markersize=3, color=colour, label=name)
    for axes, title in ((losses, "Loss (nats)"), (scores, f"Validation {plain(metric)}")):
        if best_step is not None:
            axes.axvline(best_step, linestyle="--", linewidth=1, color="#D55E00", label=f"chosen: step {best_step}")
        tidy(axes, title)
        axes.set_xlabel("step")
        axes.legend(framealpha=0.9, edgecolor="none", fontsize=8)
    return figure


def confusion_matrix(counts: pd.DataFrame) -> Figure:
    """Gold labels down, predicted labels across; colour is the share of the gold label's rows, numbers are rows.

    Of very many labels only those with the most mistakes are drawn.
    """
    import numpy as np

    values = counts.to_numpy(dtype=float)
    shares = values / values.sum(axis=1, keepdims=True).clip(min=1)
    mistakes = values.sum(axis=0) + values.sum(axis=1) - 2 * values.diagonal()
    kept = np.sort(np.argsort(-mistakes, kind="stable")[:_MOST_LABELS])
    size = len(kept)
    side = min(11.0, 3.2 + 0.42 * size)
    figure = figure_of(side + 1, side)
    axes = figure.subplots()
    image = axes.imshow(shares[np.ix_(kept, kept)], cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the gold label's rows", shrink=0.8)
    names = [plain(str(counts.columns[index])) for index in kept]
    axes.set_xticks(range(size), names, rotation=0 if max(map(len, names), default=0) * size < 24 else 90, fontsize=9)
    axes.set_yticks(range(size), names, fontsize=9)
    axes.set_xlabel("predicted")
    axes.set_ylabel("gold")
    for row, gold in enumerate(kept):
        for column, predicted in enumerate(kept):
            colour = "white" if shares[gold, predicted] > 0.5 else "black"
            text = f"{values[gold, predicted]:.0f}" if values[gold, predicted] or size <= _MOST_ZEROS else ""
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9 if size <= _MOST_ZEROS else 7)
    most = f" ({size} of {len(counts)} labels, those with the most mistakes)" if size < len(counts) else ""
    axes.set_title(f"Confusion matrix{most}", loc="left", fontsize=10)
    return figure


def comparison(assessment: Assessment) -> Figure:
    """The headline metric: one group of bars for all test rows and for each slice, one bar a scorer."""
    scores = {name: {None: value, **assessment.slice_scores[name]} for name, value in assessment.scores.items()}
    sizes = dict[str | None, int]({None: len(assessment.results.candidate)}, **assessment.slice_sizes)
    groups = [group for group in sizes if any(group in values for values in scores.values())]
    figure = figure_of(max(5.0, 1.5 + 0.55 * max(1, len(scores)) * max(1, len(groups))), 3.8)
    axes = figure.subplots()
    for index, (scorer, values) in enumerate(scores.items()):
        heights = [values.get(group, math.nan) for group in groups]
        positions, width = _bar_positions(index, len(scores), len(groups))
        bars = axes.bar(positions, heights, width, label=plain(scorer.replace("_", " ")), color=colour_of(scorer))
        axes.bar_label(bars, ["" if math.isnan(h) else f"{h:.3g}" for h in heights], fontsize=8, padding=1)
    names = [f"{'all rows' if group is None else plain(group)}\n{sizes[group]} rows" for group in groups]
    axes.set_xticks(range(len(groups)), names, fontsize=9)
    axes.margins(y=0.12)
    axes.set_xlim(-0.7, max(1, len(groups)) - 0.3)
    tidy(axes, f"{plain(assessment.headline)} on the test rows")
    if scores:
        axes.legend(frameon=False, fontsize=8, ncols=len(scores), loc="upper left", bbox_to_anchor=(0, -0.16))
    return figure


def data_overview(report: Mapping[str, Any]) -> Figure:
    """What the data look like: share of each label, and of each input length, by split.

    Args:
        report: ``DataReport`` as plain JSON. Of very many labels only the most frequent are drawn; for generation there are none.
    """
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    class_balance = {name: split["classes"] for name, split in report["splits"].items()}
    lengths = {name: dict(zip(_bin_names(), split["words"], strict=True)) for name, split in report["splits"].items()}
    labels = Counter[str]()
    for by_label in class_balance.values():
        labels.update(by_label)
    shown = [label for label, _ in labels.most_common(_MOST_LABELS)]
    figure = figure_of(10 if labels else 5.5, max(3.4, 1.4 + 0.3 * len(shown)))
    panels = figure.subplots(1, 2 if labels else 1, squeeze=False)[0]
    if labels:
        more = f" ({len(shown)} most frequent of {len(labels)})" if len(labels) > len(shown) else ""
        left = panels[0]
        _share_bars(left, class_balance, shown, horizontal=True)
        tidy(left, f"Labels{more}", grid="x")
        left.margins(y=0.02)
        left.invert_yaxis()
        left.set_xlabel("share of the split's rows")
        left.xaxis.set_major_locator(MaxNLocator(5))
        left.xaxis.set_major_formatter(PercentFormatter(1))
    right = panels[-1]
    _share_bars(right, lengths, _bin_names(), horizontal=False)
    tidy(right, "Length of the input (words)")
    right.set_ylabel("share of the split's rows")
    right.yaxis.set_major_formatter(PercentFormatter(1))
    right.legend(frameon=False, fontsize=8)
    return figure


def _bin_names() -> list[str]:
    """Names of the bins of a report's word histogram."""
    lower = [1, *(end + 1 for end in WORD_BINS)]
    return [*(f"{low}–{high}" for low, high in zip(lower, WORD_BINS, strict=False)), f"{lower[-1]}+"]


def _share_bars(axes: Axes, counts: Mapping[str, Mapping[str, int]], groups: Sequence[str], *, horizontal: bool) -> None:
    """For each group one bar a split: the share of the split's rows."""
    for index, (split, by_group) in enumerate(counts.items()):
        total = max(1, sum(by_group.values()))
        shares = [by_group.get(group, 0) / total for group in groups]
        positions, width = _bar_positions(index, len(counts), len(groups))
        draw = axes.barh if horizontal else axes.bar
        draw(positions, shares, width, label=f"{split} ({total} rows)", color=_SPLITS[index % len(_SPLITS)])
    names = [plain(group) for group in groups]
    if horizontal:
        axes.set_yticks(range(len(groups)), names, fontsize=9)
    else:
        axes.set_xticks(range(len(groups)), names, fontsize=8, rotation=45 if len(groups) > 6 else 0)


def _bar_positions(index: int, bars: int, groups: int) -> tuple[list[float], float]:
    """Where the bars of one series stand, one in each group, and how wide they are."""
    width = 0.8 / bars
    return [group + (index - (bars - 1) / 2) * width for group in range(groups)], width * 0.92


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def colour_of(scorer: str) -> str:
    return _COLOURS.get(scorer, "#CC79A7")


def figure_of(width: float, height: float) -> Figure:
    """An empty figure of this size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def tidy(axes: Axes, title: str, grid: str = "y") -> None:
    """Title to the left, no frame, a faint grid."""
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, linewidth=0.5, alpha=0.5)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def plain(text: str, longest: int = 24) -> str:
    """Text that matplotlib draws as it is, shortened."""
    # A dollar sign starts a formula in matplotlib, and an unbalanced one in a label would stop the figure from being drawn.
    short = text if len(text) <= longest else text[: longest - 1] + "…"
    return short.replace("$", r"\$")
