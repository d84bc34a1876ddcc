from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import pytest
from matplotlib.figure import Figure

from softprompt_core.data.report import WORD_BINS, DataReport, SplitReport
from softprompt_core.evaluation import Predictions, confusion
from softprompt_core.report.figures import comparison, confusion_matrix, data_overview, learning_curve, png
from softprompt_core.report.gate_figure import gate_figure
from tests.report.assessments import CANDIDATE, answers, assessment_of


def texts(figure: Figure) -> str:
    import matplotlib.text

    return "\n".join(t.get_text() for t in figure.findobj(matplotlib.text.Text))


def matrix(labels: tuple[str, ...]) -> Figure:
    gold = tuple(label for label in labels for _ in range(3))
    predicted = (labels[-1], *gold[1:])
    answers = {"ids": tuple(map(str, range(len(gold)))), "gold": gold, "predicted": predicted, "loss": (0.0,) * len(gold)}
    return confusion_matrix(confusion(Predictions(scorer="candidate", slices={}, labels=labels, **answers)))


def report(classes: dict[str, int]) -> dict[str, object]:
    split = SplitReport(rows_read=10, rows=9, classes=classes, words=(0, 4, 5, *[0] * (len(WORD_BINS) - 2)), slices={})
    return DataReport(
        splits={"train": split, "test": split}, duplicates=(), conflicts=(), leakage=(), bad_rows=(), warnings=()
    ).model_dump(mode="json")


def test_the_learning_curve_draws_both_losses_and_marks_the_chosen_step() -> None:
    history = [{"step": 10, "loss": 1.0, "validation_loss": 1.1, "validation_metric": 0.5}, {"step": 20, "loss": math.nan}]
    figure = learning_curve(history, metric="accuracy", best_step=10)
    losses, scores = figure.axes
    assert [line.get_ydata()[0] for line in losses.lines[:2]] == [1.0, 1.1]
    assert scores.lines[0].get_ydata()[0] == 0.5
    assert "chosen: step 10" in texts(figure)
    assert png(figure)


def test_the_confusion_matrix_shows_counts() -> None:
    figure = matrix(("no", "yes"))
    assert [t.get_text() for t in figure.axes[0].texts] == ["2", "1", "0", "3"]


def test_of_many_labels_those_with_mistakes_are_drawn() -> None:
    figure = matrix(tuple(f"intent {i:02d}" for i in range(60)))
    names = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert len(names) == 30 and names[0] == "intent 00" and names[-1] == "intent 59"
    assert "30 of 60 labels" in texts(figure)


@pytest.mark.parametrize("label", ["$x", "$\\frac{$", "a_b^c", "x" * 200, "two\nlines"])
def test_no_label_can_stop_a_figure(label: str) -> None:
    assert png(matrix(("no", label)))
    sliced = CANDIDATE.model_copy(update={"slices": {label: (True,) * 8}})
    named = assessment_of(sliced, None, baselines={"hard_prompt": sliced, label: sliced})
    assert png(comparison(named)) and png(gate_figure(named, title=label))
    assert png(data_overview(report({"no": 4, label: 5})))


def test_the_comparison_has_a_bar_for_each_scorer_and_group() -> None:
    figure = comparison(assessment_of(baselines={}))
    assert [bar.get_height() for bar in figure.axes[0].patches] == [7 / 8, 3 / 4, 6 / 8, 1.0]
    assert "8 rows" in texts(figure) and "4 rows" in texts(figure) and "nan" not in texts(figure)
    undefined = dataclasses.replace(
        assessment_of(), slices={"candidate": {"first": {"accuracy": 1.0}}, "champion": {}, "hard_prompt": {}}
    )
    assert "nan" not in texts(comparison(undefined)) and png(comparison(undefined))


def test_the_data_overview_draws_shares_and_drops_the_label_panel_for_generation() -> None:
    figure = data_overview(report({"no": 3, "yes": 6}))
    assert [bar.get_width() for bar in figure.axes[0].patches[:2]] == pytest.approx([6 / 9, 3 / 9])
    assert len(data_overview(report({})).axes) == 1


NOTHING = assessment_of(answers("candidate", "", ""), None, baselines={"hard_prompt": answers("hard_prompt", "", "")})


@pytest.mark.parametrize("figure", [learning_curve([]), comparison(NOTHING), gate_figure(NOTHING)])
def test_nothing_to_draw_is_an_empty_figure(figure: Figure) -> None:
    assert png(figure)


def test_figures_need_neither_pyplot_nor_a_display() -> None:
    code = """
import sys
from softprompt_core.report import figures
assert "matplotlib" not in sys.modules
assert figures.png(figures.learning_curve([{"step": 1, "loss": 1.0}]))
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
