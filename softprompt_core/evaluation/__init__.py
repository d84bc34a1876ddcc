"""Per-example predictions and the metrics made from them."""

from softprompt_core.evaluation.metrics import (
    LOWER_IS_BETTER,
    all_metrics,
    confusion,
    counted_rows,
    headline_metric,
    majority,
    metric_function,
    metric_names,
    metric_rows,
    metric_value,
    slice_metrics,
    slice_rows,
)
from softprompt_core.evaluation.predictions import Predictions

__all__ = [
    "LOWER_IS_BETTER",
    "Predictions",
    "all_metrics",
    "confusion",
    "counted_rows",
    "headline_metric",
    "majority",
    "metric_function",
    "metric_names",
    "metric_rows",
    "metric_value",
    "slice_metrics",
    "slice_rows",
]
