"""What people see in the MLflow UI: figures, descriptions and the gate report."""

from softprompt_core.report.changes import ChangedAnswer, ChangedAnswers, changed_answers, same_rows
from softprompt_core.report.description import run_description, version_description
from softprompt_core.report.figures import comparison, confusion_matrix, data_overview, learning_curve
from softprompt_core.report.gate_figure import gate_figure
from softprompt_core.report.intervals import advantage, interval
from softprompt_core.report.page import GatePage, gate_page
from softprompt_core.report.sweep_figure import SweepDots, sweep_figure

__all__ = [
    "ChangedAnswer",
    "ChangedAnswers",
    "GatePage",
    "SweepDots",
    "advantage",
    "changed_answers",
    "comparison",
    "confusion_matrix",
    "data_overview",
    "gate_figure",
    "gate_page",
    "interval",
    "learning_curve",
    "run_description",
    "same_rows",
    "sweep_figure",
    "version_description",
]
