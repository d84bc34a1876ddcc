"""Third stage: candidate, champion and baselines, all scored now, on the same test rows, in this process."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from softprompt_core.base_model import load_base
from softprompt_core.data import TaskData, load_task_data
from softprompt_core.errors import SoftpromptError
from softprompt_core.evaluation import Predictions, all_metrics, majority, metric_value
from softprompt_core.evaluation.scoring import Scorer, best_hard_prompt, headline_metric
from softprompt_core.serving import SPEC_FILE
from softprompt_core.soft_prompt import FILE_NAME, SoftPrompt
from softprompt_core.spec import PromptSpec, load_spec
from softprompt_core.stages.inputs import Inputs
from softprompt_core.stages.registration import write_version_folder
from softprompt_core.stages.training import release
from softprompt_core.stages.workspace import read_json, write_json


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


def evaluate(spec: PromptSpec, inputs: Inputs, candidate: Path, champion: Path | None) -> Path:
    """Score everyone and write the evidence into the workspace; returns its path.

    Args:
        candidate: prompt file.
        champion: folder of the champion's version; None when there is none.

    Raises:
        InvalidInput, Unavailable: the candidate or its base cannot be used.
    """
    release()
    base, data = load_base(spec.base_model), load_task_data(inputs.workspace.data)
    test = data.splits["test"]
    scorer = Scorer(base, spec, test, data.labels)
    answers = scorer.soft(SoftPrompt.load(candidate), "candidate")
    champion_answers, problem = None, None
    if champion is not None:
        champion_answers, problem = _champion(spec, scorer, data, champion)
    template, hard = best_hard_prompt(base, spec, data.splits["validation"], test, data.labels)
    baselines = {"hard_prompt": hard}
    if data.labels:
        baselines["majority"] = majority(answers, [e.target for e in data.splits["train"]])
    prompt = SoftPrompt.load(candidate)
    seeds = _seeds(spec, inputs, scorer, candidate, answers)
    facts = _facts(spec, inputs, candidate, prompt, seeds)
    evidence = Evidence(answers, champion_answers, baselines, template, problem, facts, seeds)
    write_json(inputs.workspace.evidence, evidence.to_json())
    return inputs.workspace.evidence


def _seeds(spec: PromptSpec, inputs: Inputs, scorer: Scorer, candidate: Path, answers: Predictions) -> tuple[SeedScore, ...]:
    """How each seed's training ended, as its files in the workspace tell, and what its prompt answers to the test rows.

    The choice is made by now, on validation alone; the test scores say how much of a difference is luck of the seed.
    """
    place, found = inputs.workspace, []
    trained = range(spec.training.seed, spec.training.seed + spec.training.seeds)
    if candidate not in [place.prompt(seed) for seed in trained]:
        return ()  # a prompt from elsewhere: how it was trained is not known here
    for seed in trained:
        file = place.prompt(seed)
        if not (file.exists() and place.training(seed).exists()):
            continue
        training, chosen = read_json(place.training(seed)), file == candidate
        best = next(entry for entry in training["history"] if entry["step"] == training["best_step"])
        theirs = answers if chosen else scorer.soft(SoftPrompt.load(file), "candidate")
        test = metric_value(theirs, headline_metric(theirs.labels))
        found.append(
            SeedScore(
                seed=seed,
                validation=best["validation_metric"],
                test=test if math.isfinite(test) else None,
                best_step=training["best_step"],
                stopped=training["stopped"],
                chosen=chosen,
            )
        )
    return tuple(found)


def _facts(
    spec: PromptSpec, inputs: Inputs, candidate: Path, prompt: SoftPrompt, seeds: tuple[SeedScore, ...]
) -> dict[str, float]:
    """What gates can name beside metrics; a number that is not known, or has no meaning, is left out and fails its gate."""
    folder = write_version_folder(spec, inputs, candidate)
    facts: dict[str, float] = {
        "size_bytes": sum(file.stat().st_size for file in folder.iterdir()),
        "prompt_norm": float(prompt.weights.norm(dim=1).mean()),
    }
    if seeds:
        facts["best_step"] = next((seed.best_step for seed in seeds if seed.chosen), math.nan)
        # A seed without any finite prompt has left no file.
        facts["diverged_seeds"] = spec.training.seeds - sum(seed.stopped != "diverged" for seed in seeds)
        if len(seeds) == spec.training.seeds > 1:
            scores = [seed.validation for seed in seeds]
            facts["seed_spread"] = max(scores) - min(scores)
    return {name: value for name, value in facts.items() if math.isfinite(value)}


def _champion(spec: PromptSpec, scorer: Scorer, data: TaskData, folder: Path) -> tuple[Predictions, str | None]:
    """The champion's answers to the candidate's rows, on the champion's own base."""
    try:
        prompt = SoftPrompt.load(folder / FILE_NAME)
        if prompt.base.fingerprint != scorer.base.identity.fingerprint:
            other = load_base(load_spec(folder / SPEC_FILE).base_model)
            scorer = Scorer(other, spec, data.splits["test"], data.labels)
        return scorer.soft(prompt, "champion"), None
    except SoftpromptError as error:
        return Predictions("champion", (), (), (), (), {s: () for s in spec.data.slices}, data.labels), str(error)
