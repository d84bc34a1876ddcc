"""``Assessment``: the gates' decision with every number that is shown beside it, computed once and passed on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from softprompt_core.data import DataChanges
from softprompt_core.evaluation import PredictionMetrics, slice_rows
from softprompt_core.evaluation.changes import ChangedAnswers, changed_answers
from softprompt_core.evaluation.paired import compare
from softprompt_core.evaluation.results import EvaluationResults
from softprompt_core.gates.deciding import apply_gates
from softprompt_core.gates.decision import Decision, Policy
from softprompt_core.gates.scorers import Scorers


@dataclass(frozen=True)
class Advantage:
    """How much better the candidate is than the reference (positive: better), and how sure that is."""

    value: float
    lower: float
    """One-sided bound at ``confidence``."""
    upper: float
    """One-sided bound at ``confidence``."""
    confidence: float


@dataclass(frozen=True)
class Assessment:
    """What one set of evaluation results means for one policy.

    Attributes:
        results: what everyone answered; what the decision rests on.
        decision: what the gates say.
        metrics: scorer → metric → value on all test rows; only defined values. The candidate comes first.
        slices: scorer → slice → metric → value; only defined values.
        advantages: slice, or None for all rows → the candidate's advantage over ``reference`` in the headline metric; where a
            gate compares just that, the gate's own numbers. All rows come first; what is undefined is left out.
        changed: test rows that the candidate answers differently from ``reference``.
        compared_with: the version that was champion; None where there was none.
        data_changes: what changed in the data since the champion was trained; None where there is nothing to tell.
        data_note: the same in a sentence, or why it is not known.
    """

    results: EvaluationResults
    decision: Decision
    metrics: Mapping[str, Mapping[str, float]]
    slices: Mapping[str, Mapping[str, Mapping[str, float]]]
    advantages: Mapping[str | None, Advantage]
    changed: ChangedAnswers
    compared_with: int | None = None
    data_changes: DataChanges | None = None
    data_note: str = ""

    @property
    def headline(self) -> str:
        """The metric that tables lead with."""
        return self.results.headline

    @property
    def reference(self) -> str:
        """The scorer that the candidate's answers are compared with."""
        return self.results.reference

    @property
    def scores(self) -> dict[str, float]:
        """Scorer → headline metric on all test rows."""
        return {name: values[self.headline] for name, values in self.metrics.items() if self.headline in values}

    @property
    def slice_scores(self) -> dict[str, dict[str, float]]:
        """Scorer → slice → headline metric, where it is defined."""
        return {
            scorer: {name: values[self.headline] for name, values in by_slice.items() if self.headline in values}
            for scorer, by_slice in self.slices.items()
        }

    @property
    def change_lines(self) -> list[str]:
        """What changed in answers and data, a line each, for descriptions."""
        against = f"version {self.compared_with}" if self.compared_with is not None else "the hard prompt"
        lines = [f"Against {against}: {self.changed}"]
        if self.data_changes is not None:
            return [*lines, *(f"Data, {split}" for split in self.data_changes.splits)]
        return lines if self.compared_with is None else [*lines, self.data_note]

    @property
    def slice_sizes(self) -> dict[str, int]:
        """Slice → number of test rows."""
        return {name: sum(flags) for name, flags in self.results.candidate.slices.items()}


def assess(results: EvaluationResults, policy: Policy, inputs: Mapping[str, str]) -> Assessment:
    """Apply the gates to evaluation results and compute all metrics. Pure: equal arguments give equal assessments.

    Args:
        results: what everyone answered to the test rows.
        policy: gates and approval.
        inputs: row id → input text, shown beside answers that changed; a missing one is left empty.

    Raises:
        KeyError: there is neither a champion nor a hard prompt to compare with.
        ValueError: the reference answered other rows than the candidate.
    """
    scorers = Scorers(results.candidate, results.champion, results.baselines, results.facts, results.champion_problem)
    metrics = {name: scorers.metrics(name) for name in results.scorers()}
    decision, reference = apply_gates(scorers, policy), metrics[results.reference]
    changed = changed_answers(reference.predictions, results.candidate, inputs)
    return Assessment(
        results=results,
        decision=decision,
        metrics={name: m.defined() for name, m in metrics.items()},
        slices={name: {slice: m.defined(slice) for slice in m.predictions.slices} for name, m in metrics.items()},
        advantages=_advantages(results, metrics["candidate"], reference, decision),
        changed=changed,
    )


def _advantages(
    results: EvaluationResults, candidate: PredictionMetrics, reference: PredictionMetrics, decision: Decision
) -> dict[str | None, Advantage]:
    by_gates = {
        result.slice: Advantage(result.advantage, *result.interval, result.confidence)
        for _, result in reversed(list(decision.lines()))  # of several gates the first counts
        if (result.metric, result.versus) == (results.headline, results.reference)
        and result.advantage is not None
        and result.interval is not None
        and result.confidence is not None
    }
    advantages: dict[str | None, Advantage] = {}
    for slice in (None, *results.candidate.slices):
        advantage = by_gates.get(slice) or _advantage(candidate, reference, results.headline, slice)
        if advantage is not None:
            advantages[slice] = advantage
    return advantages


def _advantage(candidate: PredictionMetrics, reference: PredictionMetrics, metric: str, slice: str | None) -> Advantage | None:
    if not len(slice_rows(candidate.predictions, slice)):
        return None
    comparison = compare(candidate, reference, metric, slice=slice)
    interval = comparison.interval()
    return None if interval is None else Advantage(comparison.advantage, *interval, comparison.confidence)
