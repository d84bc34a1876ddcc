"""Evaluate a candidate: candidate, champion and baselines, all scored now, on the same test rows, in this process."""

from __future__ import annotations

import math
from pathlib import Path

from softprompt_core.base_model.loading import BaseModel, load_base
from softprompt_core.data import TaskData
from softprompt_core.errors import SoftpromptError
from softprompt_core.evaluation import Predictions, headline_metric, majority, metric_value
from softprompt_core.evaluation.results import EvaluationResults, SeedScore
from softprompt_core.evaluation.scoring import Scorer, best_hard_prompt
from softprompt_core.lifecycle.champion import Champion
from softprompt_core.lifecycle.register import write_version_folder
from softprompt_core.lifecycle.resolve import ResolvedTask
from softprompt_core.lifecycle.tokenized import release
from softprompt_core.lifecycle.trained import TrainedSeed, finished_seed
from softprompt_core.serving import SPEC_FILE
from softprompt_core.soft_prompt import FILE_NAME, SoftPrompt
from softprompt_core.spec import PromptSpec, load_spec


def evaluate(task: ResolvedTask, candidate: Path, champion: Champion | None = None) -> EvaluationResults:
    """Score everyone on the test rows.

    Args:
        candidate: prompt file.
        champion: the version to compare with; None when there is none.

    Raises:
        InvalidInput, Unavailable: the candidate or its base cannot be used.
    """
    release()
    base, data = load_base(task.spec.base_model), task.data
    prompt, scorer = SoftPrompt.load(candidate), Scorer(base, task.spec, data.splits["test"], data.labels)
    answers = scorer.soft(prompt, "candidate")
    of_champion, problem = None, None
    if champion is not None:
        of_champion, problem = champion_answers(task.spec, scorer, champion)
    hard_prompt, baselines = score_baselines(base, task.spec, data, answers)
    seeds = _seed_scores(task, scorer, candidate, answers)
    return EvaluationResults(
        candidate=answers,
        champion=of_champion,
        baselines=baselines,
        hard_prompt=hard_prompt,
        champion_problem=problem,
        facts=_facts(task, candidate, prompt, seeds),
        seeds=seeds,
    )


def score_baselines(
    base: BaseModel, spec: PromptSpec, data: TaskData, candidate: Predictions
) -> tuple[str, dict[str, Predictions]]:
    """The hand-written prompt that is best on validation, and what baselines answer to the candidate's rows, by name."""
    template, hard_prompt = best_hard_prompt(base, spec, data.splits["validation"], data.splits["test"], data.labels)
    baselines = {"hard_prompt": hard_prompt}
    if data.labels:
        baselines["majority"] = majority(candidate, [example.target for example in data.splits["train"]])
    return template, baselines


def no_answers(spec: PromptSpec, labels: tuple[str, ...]) -> Predictions:
    """Those of a champion that cannot be scored. A gate that compares with answers to no rows fails, and says so."""
    slices: dict[str, tuple[bool, ...]] = {name: () for name in spec.data.slices}
    return Predictions(scorer="champion", ids=(), gold=(), predicted=(), loss=(), slices=slices, labels=labels)


def champion_answers(spec: PromptSpec, scorer: Scorer, champion: Champion) -> tuple[Predictions, str | None]:
    """The champion's answers to the scorer's rows, on the champion's own base; or none at all, and why."""
    none = no_answers(spec, scorer.labels)
    if champion.problem is not None:
        return none, champion.problem
    try:
        prompt = SoftPrompt.load(champion.folder / FILE_NAME)
        if prompt.base.fingerprint != scorer.base.identity.fingerprint:
            base = load_base(load_spec(champion.folder / SPEC_FILE).base_model)
            scorer = Scorer(base, spec, scorer.examples, scorer.labels)
        return scorer.soft(prompt, "champion"), None
    except SoftpromptError as error:
        return none, str(error)


def _seed_scores(task: ResolvedTask, scorer: Scorer, candidate: Path, answers: Predictions) -> tuple[SeedScore, ...]:
    """How each seed's training ended, as its files in the workspace tell, and what its prompt answers to the test rows.

    The choice is made by now, on validation alone; the test scores say how much of a difference is luck of the seed.
    """
    trained = [seed for number in task.seeds if (seed := finished_seed(task.workspace, number)) is not None]
    if candidate not in [seed.prompt for seed in trained]:
        return ()  # a prompt from elsewhere: how it was trained is not known here
    return tuple(_seed_score(seed, scorer, answers if seed.prompt == candidate else None) for seed in trained)


def _seed_score(seed: TrainedSeed, scorer: Scorer, answers: Predictions | None) -> SeedScore:
    """``answers``: those of the candidate, where this seed is it."""
    chosen, record = answers is not None, seed.read_record()
    if answers is None:
        answers = scorer.soft(SoftPrompt.load(seed.prompt), "candidate")
    test = metric_value(answers, headline_metric(answers.labels))
    best = next(entry for entry in record["history"] if entry["step"] == record["best_step"])
    return SeedScore(
        seed=seed.seed,
        validation=best["validation_metric"],
        test=test if math.isfinite(test) else None,
        best_step=record["best_step"],
        stopped=seed.stopped,
        chosen=chosen,
    )


def _facts(task: ResolvedTask, candidate: Path, prompt: SoftPrompt, seeds: tuple[SeedScore, ...]) -> dict[str, float]:
    """What gates can name beside metrics; a number that is not known, or has no meaning, is left out and fails its gate."""
    folder = write_version_folder(task, candidate)
    facts: dict[str, float] = {
        "size_bytes": sum(file.stat().st_size for file in folder.iterdir()),
        "prompt_norm": float(prompt.weights.double().norm(dim=1).mean()),
    }
    if seeds:
        facts["best_step"] = next((seed.best_step for seed in seeds if seed.chosen), math.nan)
        # A seed without any finite prompt has left no file.
        facts["diverged_seeds"] = len(task.seeds) - sum(seed.stopped != "diverged" for seed in seeds)
        if len(seeds) == len(task.seeds) > 1:
            scores = [seed.validation for seed in seeds]
            facts["seed_spread"] = max(scores) - min(scores)
    return {name: value for name, value in facts.items() if math.isfinite(value)}
