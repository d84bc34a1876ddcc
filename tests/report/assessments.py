"""Assessments for tests of pages, figures and descriptions: of eight rows, or of answers given as letters."""

from __future__ import annotations

from collections.abc import Mapping

from softprompt_core.evaluation import Predictions
from softprompt_core.evaluation.results import EvaluationResults
from softprompt_core.gates import Assessment, Policy, assess
from softprompt_core.spec import GateSpec

NO_WORSE = GateSpec(metric="accuracy", versus="champion", margin=0.02, min_examples=1)


def answers(scorer: str, predicted: str, gold: str = "aaaabbbb") -> Predictions:
    """One letter a row; the slice ``first`` holds the first four rows, the slice ``none`` no row."""
    rows = len(gold)
    return Predictions(
        scorer=scorer,
        ids=tuple(f"test/{i}" for i in range(rows)),
        gold=tuple(gold),
        predicted=tuple(predicted),
        loss=(0.5,) * rows,
        slices={"first": tuple(i < 4 for i in range(rows)), "none": (False,) * rows},
        labels=("a", "b"),
    )


CHAMPION, CANDIDATE = answers("champion", "aaaabbaa"), answers("candidate", "abaabbbb")
HARD_PROMPT = answers("hard_prompt", "aaaaaaaa")


def assessment_of(
    candidate: Predictions = CANDIDATE,
    champion: Predictions | None = CHAMPION,
    *gates: GateSpec,
    baselines: Mapping[str, Predictions] | None = None,
    inputs: Mapping[str, str] | None = None,
) -> Assessment:
    """Without gates named, one that asks for no loss of accuracy against the champion."""
    results = EvaluationResults(
        candidate=candidate,
        champion=champion,
        baselines={"hard_prompt": HARD_PROMPT} if baselines is None else baselines,
        hard_prompt="{input}\nAnswer:",
    )
    texts = {id: f"text of {id}" for id in candidate.ids} if inputs is None else inputs
    return assess(results, Policy(gates or (NO_WORSE,)), texts)
