"""What people see in the MLflow UI: figures, descriptions and the gate report."""

from softprompt_core.report.description import run_description, version_description
from softprompt_core.report.figures import comparison, confusion_matrix, data_overview, learning_curve, png
from softprompt_core.report.gate_figure import gate_figure
from softprompt_core.report.page import NearTokens, PageDetails, gate_page, result_sentence
from softprompt_core.report.sweep_figure import SweepDots, sweep_figure

__all__ = [
    "NearTokens",
    "PageDetails",
    "SweepDots",
    "comparison",
    "confusion_matrix",
    "data_overview",
    "gate_figure",
    "gate_page",
    "learning_curve",
    "png",
    "result_sentence",
    "run_description",
    "sweep_figure",
    "version_description",
]
