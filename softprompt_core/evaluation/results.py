"""What a decision rests on, as it lies on disk and in MLflow. Needs no torch: gates and reports read it without a base."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from softprompt_core.evaluation.metrics import headline_metric
from softprompt_core.evaluation.predictions import Predictions

EVIDENCE_FILE = "evaluation/evidence.json"
"""Where a run holds it, and below it the decision that was made on it."""
DECISION_FILE = "gates/decision.json"


class SeedScore(BaseModel):
    """How the training of one seed ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    validation: float
    """Best validation metric (accuracy, or negative loss for generation). It alone chose the seed."""
    test: float | None
    """Headline metric on the test rows, scored after the choice; None where it was not."""
    best_step: int
    stopped: str
    """Why the training ended."""
    chosen: bool
    """Whether this seed's prompt is the candidate."""


class EvaluationResults(BaseModel):
    """All that a decision rests on: what everyone answered to the test rows, and facts about the candidate."""

    model_config = ConfigDict(frozen=True)

    candidate: Predictions
    champion: Predictions | None
    """None for a first version. A champion that cannot be scored any more has no rows at all, so that no gate against it can
    pass; ``champion_problem`` says why."""
    baselines: Mapping[str, Predictions]
    """``hard_prompt`` and, for classification, ``majority``."""
    hard_prompt: str
    """The hand-written prompt that was best on validation."""
    champion_problem: str | None = None
    facts: Mapping[str, int | float] = {}
    """Numbers about the candidate that gates can name (``softprompt_core.spec.gates.FACTS``); unknown ones are left out."""
    seeds: tuple[SeedScore, ...] = ()
    """One entry a trained seed."""

    def scorers(self) -> dict[str, Predictions]:
        """Everyone that answered, the candidate first."""
        champion = {"champion": self.champion} if self.champion is not None and len(self.champion) else {}
        return {"candidate": self.candidate, **champion, **self.baselines}

    @property
    def headline(self) -> str:
        """The metric that tables lead with."""
        return headline_metric(self.candidate.labels)

    @property
    def reference(self) -> str:
        """The scorer that the candidate is compared with: the champion, or the hard prompt where there is none to score."""
        return "champion" if "champion" in self.scorers() else "hard_prompt"
