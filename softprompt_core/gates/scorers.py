"""What gates look at: everyone's answers to the same test rows, and facts about the candidate."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from softprompt_core.evaluation import PredictionMetrics, Predictions, counted_rows, metric_names, slice_rows
from softprompt_core.evaluation.changes import same_rows
from softprompt_core.gates.wording import scorer_in_words
from softprompt_core.spec.gates import GateSpec


class CannotCheck(Exception):
    """A gate that cannot be checked and so fails; the message is the reason."""


class TooFewRows(CannotCheck):
    """The metric is taken over fewer rows than the gate asks for."""


class Scorers:
    """Everyone's answers. What a metric costs for each row is computed once, for all gates and slices.

    Args:
        champion: None for a first version.
        baselines: name → answers.
        facts: numbers about the candidate (``softprompt_core.spec.gates.FACTS``).
        champion_problem: why the champion has no answers; every gate against it fails with these words.
    """

    def __init__(
        self,
        candidate: Predictions,
        champion: Predictions | None,
        baselines: Mapping[str, Predictions],
        facts: Mapping[str, float],
        champion_problem: str | None = None,
    ) -> None:
        self.candidate = PredictionMetrics(candidate)
        self.has_champion = champion is not None
        self._champion, self._baselines, self._facts = champion, baselines, facts
        self._champion_problem = champion_problem
        self._metrics = {"candidate": self.candidate}

    def metrics(self, name: str) -> PredictionMetrics:
        """The metrics of ``candidate``, ``champion`` or a baseline. Raises CannotCheck where it was not evaluated."""
        if name == "champion" and self._champion_problem is not None:
            raise CannotCheck(f"the champion could not be scored: {' '.join(self._champion_problem.split())}")
        if name not in self._metrics:
            predictions = self._champion if name == "champion" else self._baselines.get(name)
            if predictions is None:
                raise CannotCheck(f"{scorer_in_words(name)} was not evaluated")
            self._metrics[name] = PredictionMetrics(predictions)
        return self._metrics[name]

    def fact(self, gate: GateSpec) -> float:
        """The number about the candidate that the gate names, finite. Raises CannotCheck where it is not known."""
        if gate.slice is not None:
            raise CannotCheck(f"{gate.metric} is about the prompt itself and has no slices")
        value = self._facts.get(gate.metric)
        if value is None or not math.isfinite(value):
            raise CannotCheck(f"{gate.metric} of the candidate is not known")
        return float(value)

    def counted_rows(self, gate: GateSpec) -> int:
        """How many rows the candidate's metric is taken over.

        Raises:
            TooFewRows: fewer than the gate asks for.
            CannotCheck: there is no such metric or slice.
        """
        _require_metric(gate, self.candidate.predictions, "")
        count = len(counted_rows(self.candidate.predictions, gate.metric, slice=gate.slice))
        if count < gate.min_examples:
            raise TooFewRows(f"only {count} test rows for {gate.metric}, {gate.min_examples} needed")
        return count


def finite_value(gate: GateSpec, metrics: PredictionMetrics, whose: str = "") -> float:
    """The gate's metric of one scorer. Raises CannotCheck where there is none, or none that is finite."""
    _require_metric(gate, metrics.predictions, whose)
    value = metrics.value(gate.metric, gate.slice)
    if not math.isfinite(value):
        raise CannotCheck(f"{gate.metric}{whose} has no finite value (it is {value})")
    return value


def require_same_rows(gate: GateSpec, candidate: Predictions, reference: Predictions) -> None:
    """Raises CannotCheck unless both answered the same rows, in the gate's slice too."""
    same = same_rows(candidate, reference)
    if same and gate.slice is not None:
        same = np.array_equal(slice_rows(candidate, gate.slice), slice_rows(reference, gate.slice))
    if not same:
        name = scorer_in_words(str(gate.versus))
        raise CannotCheck(f"not the same rows: candidate and {name} must be evaluated on identical test rows")


def _require_metric(gate: GateSpec, predictions: Predictions, whose: str) -> None:
    if gate.metric not in metric_names(predictions):
        kind = "classification" if predictions.labels else "generation"
        known = ", ".join(metric_names(predictions)[:12])
        raise CannotCheck(f"{gate.metric} is not a metric of this {kind} task{whose}; known: {known}")
    if gate.slice is not None and gate.slice not in predictions.slices:
        raise CannotCheck(f"slice {gate.slice} is missing from the predictions{whose}")
