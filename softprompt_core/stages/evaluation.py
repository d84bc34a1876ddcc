"""Third stage: candidate, champion and baselines, all scored now, on the same test rows, in this process."""

from __future__ import annotations

import math
from pathlib import Path

from softprompt_core.base_model import load_base
from softprompt_core.data import TaskData, load_task_data
from softprompt_core.errors import SoftpromptError
from softprompt_core.evaluation import Predictions, headline_metric, majority, metric_value
from softprompt_core.evaluation.scoring import Scorer, best_hard_prompt
from softprompt_core.serving import SPEC_FILE
from softprompt_core.soft_prompt import FILE_NAME, SoftPrompt
from softprompt_core.spec import PromptSpec, load_spec
from softprompt_core.stages.encoded import release
from softprompt_core.stages.evidence import Evidence, SeedScore
from softprompt_core.stages.inputs import Inputs
from softprompt_core.stages.registration import write_version_folder
from softprompt_core.stages.workspace import read_json, write_json


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
