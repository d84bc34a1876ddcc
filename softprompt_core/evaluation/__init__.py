"""Per-example predictions and the metrics made from them."""

from softprompt_core.evaluation.metrics import (
    LOWER_IS_BETTER,
    PredictionMetrics,
    all_metrics,
    confusion,
    counted_rows,
    headline_by_row,
    headline_metric,
    majority,
    metric_names,
    metric_value,
    slice_rows,
    summary_metrics,
)
from softprompt_core.evaluation.predictions import Predictions

__all__ = [
    "LOWER_IS_BETTER",
    "PredictionMetrics",
    "Predictions",
    "all_metrics",
    "confusion",
    "counted_rows",
    "headline_by_row",
    "headline_metric",
    "majority",
    "metric_names",
    "metric_value",
    "slice_rows",
    "summary_metrics",
]
