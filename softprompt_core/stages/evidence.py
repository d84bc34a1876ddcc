"""What a decision rests on, as it lies on disk and in MLflow. Needs no torch: gates and reports read it without a base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from softprompt_core.evaluation import Predictions, all_metrics, headline_metric, metric_value
from softprompt_core.stages.workspace import read_json

EVIDENCE_FILE = "evaluation/evidence.json"
"""Where a run holds it, and below it the decision that was made on it."""
DECISION_FILE = "gates/decision.json"


@dataclass(frozen=True)
class SeedScore:
    """How the training of one seed ended.

    Attributes:
        validation: best validation metric (accuracy, or negative loss for generation). It alone chose the seed.
        test: headline metric on the test rows, scored after the choice; None where it was not.
        stopped: why the training ended.
        chosen: whether this seed's prompt is the candidate.
    """

    seed: int
    validation: float
    test: float | None
    best_step: int
    stopped: str
    chosen: bool


@dataclass(frozen=True)
class Evidence:
    """All that a decision rests on: what everyone answered to the test rows, and facts about the candidate.

    Attributes:
        champion: None for a first version. A champion that cannot be scored any more is there with no rows at all, so that no
            gate against it can pass; ``champion_problem`` says why.
        baselines: ``hard_prompt`` and, for classification, ``majority``.
        facts: numbers about the candidate that gates can name (``softprompt_core.spec.gates.FACTS``); one that is not known is
            left out.
        seeds: one entry a trained seed.
    """

    candidate: Predictions
    champion: Predictions | None
    baselines: Mapping[str, Predictions]
    hard_prompt: str
    champion_problem: str | None = None
    facts: Mapping[str, float] = field(default_factory=dict)
    seeds: tuple[SeedScore, ...] = ()

    def scorers(self) -> dict[str, Predictions]:
        """Everyone that answered, the candidate first."""
        found = {"candidate": self.candidate}
        if self.champion is not None and len(self.champion):
            found["champion"] = self.champion
        return {**found, **self.baselines}

    def metrics(self) -> dict[str, dict[str, float]]:
        """Scorer → metric → value on all test rows; only defined values."""
        return {name: all_metrics(p) for name, p in self.scorers().items()}

    def headline(self) -> str:
        return headline_metric(self.candidate.labels)

    def slices(self) -> dict[str, dict[str, float]]:
        """Scorer → slice → headline metric, where there are rows."""
        found: dict[str, dict[str, float]] = {}
        for name, predictions in self.scorers().items():
            values = {s: metric_value(predictions, self.headline(), slice=s) for s in predictions.slices}
            found[name] = {s: v for s, v in values.items() if v == v}
        return found

    def to_json(self) -> dict[str, Any]:
        return dict(
            candidate=self.candidate.to_json(),
            champion=None if self.champion is None else self.champion.to_json(),
            baselines={name: p.to_json() for name, p in self.baselines.items()},
            hard_prompt=self.hard_prompt,
            champion_problem=self.champion_problem,
            facts=dict(self.facts),
            seeds=[asdict(seed) for seed in self.seeds],
        )

    @classmethod
    def load(cls, path: Path) -> Evidence:
        return cls.from_json(read_json(path))

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Evidence:
        """The inverse of ``to_json``. Raises KeyError, TypeError or ValueError for anything else."""
        champion = found["champion"]
        return cls(
            candidate=Predictions.from_json(found["candidate"]),
            champion=None if champion is None else Predictions.from_json(champion),
            baselines={name: Predictions.from_json(p) for name, p in found["baselines"].items()},
            hard_prompt=found["hard_prompt"],
            champion_problem=found["champion_problem"],
            facts=found.get("facts", {}),
            seeds=tuple(SeedScore(**seed) for seed in found.get("seeds", ())),
        )
