"""Scores as rows of a table: one row a metric or slice, one column a scorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from softprompt_core.evaluation import summary_metrics
from softprompt_core.gates import Assessment
from softprompt_core.markdown import number

Scores = Mapping[str, Mapping[str, float]]
"""Scorer → metric or slice → value."""


def shown_metrics(assessment: Assessment) -> list[str]:
    """The metrics that tables show, the headline first: those of the summary that any scorer has."""
    metrics = summary_metrics(assessment.results.candidate.labels)
    return [metric for metric in metrics if any(metric in values for values in assessment.metrics.values())]


def score_rows(names: Sequence[str], scores: Scores, reference: str) -> list[list[str]]:
    """Name, one value a scorer, and the candidate's change from ``reference`` where it was scored."""
    rows = []
    for name in names:
        cells = [name, *(number(values.get(name)) for values in scores.values())]
        if reference in scores:
            new, old = scores["candidate"].get(name), scores[reference].get(name)
            cells.append("–" if new is None or old is None else f"{new - old + 0.0:+.4f}")
        rows.append(cells)
    return rows
