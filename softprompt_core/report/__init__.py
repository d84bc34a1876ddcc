"""What people see in the MLflow UI: figures and descriptions."""

from softprompt_core.report.description import run_description, version_description
from softprompt_core.report.figures import comparison, confusion_matrix, data_overview, learning_curve

__all__ = ["comparison", "confusion_matrix", "data_overview", "learning_curve", "run_description", "version_description"]
