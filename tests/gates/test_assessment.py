"""What is computed once for a decision: the bounds shown are those of the gates, and all numbers agree."""

from __future__ import annotations

import numpy as np
import pytest

from softprompt_core.evaluation import PredictionMetrics, Predictions, all_metrics, bootstrap
from softprompt_core.evaluation.paired import compare
from softprompt_core.evaluation.results import EvaluationResults
from softprompt_core.gates import Advantage, Assessment, Policy, assess, decide
from softprompt_core.spec import GateSpec
from tests.gates.predictions import answers, share, with_fields

SLICES = {"long": [i < 30 for i in range(60)], "none": [False] * 60}


def assessed(candidate: Predictions, champion: Predictions | None, *gates: GateSpec, **baselines: Predictions) -> Assessment:
    results = EvaluationResults(candidate=candidate, champion=champion, baselines=baselines, hard_prompt="{input}")
    assessment = assess(results, Policy(gates), {})
    assert assessment.decision == decide(candidate, champion, Policy(gates), baselines)
    return assessment


def gate(**fields: object) -> GateSpec:
    return GateSpec.model_validate({"metric": "accuracy", "versus": "champion"} | fields)


CANDIDATE, CHAMPION = share(50, 60, slices=SLICES), answers([i >= 20 for i in range(60)], slices=SLICES, scorer="champion")


def test_the_advantages_are_the_gates_own_where_a_gate_compares_just_that() -> None:
    gates = (gate(margin=0.02, confidence=0.9), gate(slice="long", test="bootstrap", confidence=0.99), gate(margin=0.5))
    assessment = assessed(CANDIDATE, CHAMPION, *gates)
    for name, result in zip((None, "long"), assessment.decision.results, strict=False):
        assert result.advantage is not None and result.interval is not None and result.confidence is not None
        assert assessment.advantages[name] == Advantage(result.advantage, *result.interval, result.confidence)
    assert [a.confidence for a in assessment.advantages.values()] == [0.9, 0.99]
    every_slice = assessed(CANDIDATE, CHAMPION, gate(slice="*", confidence=0.8))
    (part,) = (part for part in every_slice.decision.results[0].parts if part.slice == "long")
    assert (every_slice.advantages["long"].lower, every_slice.advantages["long"].upper) == part.interval


def test_what_no_gate_compares_is_compared_in_the_same_way_at_95_percent() -> None:
    others = (gate(versus="hard_prompt"), gate(metric="macro_f1"))
    assessment = assessed(CANDIDATE, CHAMPION, *others, hard_prompt=share(10, 60, slices=SLICES))
    assert list(assessment.advantages) == [None, "long"]  # the slice without rows is left out
    for name, advantage in assessment.advantages.items():
        comparison = compare(PredictionMetrics(CANDIDATE), PredictionMetrics(CHAMPION), "accuracy", slice=name)
        assert comparison.test == "mcnemar"
        assert advantage == Advantage(comparison.advantage, *comparison.interval(), 0.95)  # type: ignore[misc]


def test_generated_texts_are_compared_by_bootstrap_and_a_scorer_is_never_ahead_of_itself() -> None:
    gold = tuple(f"the cat number {i} sat on the mat" for i in range(30))
    good = with_fields(share(30, 30), gold=gold, predicted=gold, labels=())
    bad = with_fields(good, predicted=("the dog",) * 30)
    ahead = assessed(good, bad).advantages[None]
    assert ahead.lower <= ahead.value <= ahead.upper and ahead.lower > 0
    assert assessed(good, good).advantages == {None: Advantage(0.0, 0.0, 0.0, 0.95)}
    equal = assessed(CANDIDATE, CANDIDATE).advantages[None]
    assert equal.value == 0 and equal.lower == pytest.approx(-equal.upper)


def test_an_interval_holds_its_value_and_a_lower_loss_is_an_advantage() -> None:
    for advantage in assessed(CANDIDATE, CHAMPION).advantages.values():
        assert advantage.lower <= advantage.value <= advantage.upper
    better = PredictionMetrics(with_fields(CANDIDATE, loss=(0.1,) * 60))
    assert compare(better, PredictionMetrics(CHAMPION), "loss").advantage == pytest.approx(0.4)


def test_bounds_cover_the_truth_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a true advantage of 0.1, by McNemar's interval and by bootstrap: each bound misses in about one of twenty."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 400)
    generator = np.random.default_rng(0)
    missed = np.zeros(4)
    for _ in range(60):
        drawn = generator.random(150)
        ours, theirs = PredictionMetrics(answers(drawn < 0.8)), PredictionMetrics(answers((drawn < 0.6) | (drawn > 0.9)))
        for index, test in enumerate(("mcnemar", "bootstrap")):
            lower, upper = compare(ours, theirs, "accuracy", test=test).interval() or (np.nan, np.nan)
            missed[2 * index : 2 * index + 2] += [not lower <= 0.1, not upper >= 0.1]
    assert (missed <= 9).all()  # 3 of 60 expected


def test_without_a_champion_the_hard_prompt_is_the_reference_and_undefined_values_are_left_out() -> None:
    assessment = assessed(CANDIDATE, None, hard_prompt=share(30, 60, slices=SLICES))
    assert assessment.reference == "hard_prompt" and assessment.advantages[None].value == pytest.approx(20 / 60)
    assert assessment.metrics["candidate"] == all_metrics(CANDIDATE)
    assert assessment.slice_scores["candidate"] == {"long": 1.0} and assessment.slice_sizes == {"long": 30, "none": 0}


def test_the_gates_decide_the_same_whether_or_not_anything_else_is_computed() -> None:
    every = (gate(), gate(slice="*"), gate(metric="ece"), gate(versus="majority"), GateSpec(metric="size_bytes", at_most=1))
    assessed(CANDIDATE, CHAMPION, *every, hard_prompt=CANDIDATE)  # compares with `decide`
