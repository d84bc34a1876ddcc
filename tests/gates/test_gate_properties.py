"""What holds for all predictions and all gates, well-formed or not."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt_core.evaluation import Predictions, metric_value
from softprompt_core.gates import Decision, Policy, bootstrap, decide
from softprompt_core.spec import GateSpec
from tests.gates.predictions import METRICS, answers, any_gates, any_predictions

RIGHT = st.lists(st.booleans(), min_size=1, max_size=40)
BINARY_METRICS = [m for m in METRICS if m not in ("f1/", "bleu", "nonsense", "")]


@pytest.fixture(autouse=True, scope="module")
def fewer_resamples() -> Iterator[None]:
    """The number of resamples changes the precision of an interval, not what must hold for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "RESAMPLES", 50)
        yield


@settings(deadline=None, max_examples=200)
@given(
    any_predictions(),
    st.none() | any_predictions(),
    st.lists(any_gates, max_size=4),
    st.none() | any_predictions(),
    st.booleans(),
)
def test_decide_never_raises_and_passes_only_on_passed_gates(
    candidate: Predictions, champion: Predictions | None, gates: list[GateSpec], hard: Predictions | None, same_rows: bool
) -> None:
    if same_rows and champion is not None and len(champion) >= len(candidate):
        rows = len(candidate)
        champion = dataclasses.replace(candidate, predicted=champion.predicted[:rows], loss=champion.loss[:rows])
    decision = decide(candidate, champion, Policy(tuple(gates)), {} if hard is None else {"hard_prompt": hard})
    statuses = [r.status for r in decision.results]
    assert len(statuses) == len(gates)
    assert decision.passed == ("passed" in statuses and "failed" not in statuses)
    assert all(r.reason and r.gate for r in decision.results)
    assert Decision.from_json(json.loads(json.dumps(decision.to_json(), allow_nan=False))) == decision
    assert decision.to_markdown().startswith(decision.verdict) and decision.to_text().startswith(decision.verdict)
    for spec, found in zip(gates, decision.results, strict=True):
        if found.status == "passed":
            assert math.isfinite(metric_value(candidate, spec.metric, slice=spec.slice))
        if found.status == "skipped":
            assert champion is None and spec.versus == "champion"


@pytest.mark.parametrize("nothing", [None, 3, "predictions"])
def test_things_that_are_no_predictions_never_pass(nothing: object) -> None:
    gates = (GateSpec(metric="accuracy", at_least=0), GateSpec(metric="accuracy", versus="champion", margin=1))
    right = answers([True] * 40)
    assert not decide(nothing, right, Policy(gates)).passed  # type: ignore[arg-type]
    assert not decide(right, "x", Policy(gates)).passed  # type: ignore[arg-type]
    assert not decide(right, right, Policy((*gates, "x"))).passed  # type: ignore[arg-type]
    assert not decide(right, right, Policy((*gates, GateSpec(metric="accuracy", versus="majority"))), None).passed  # type: ignore[arg-type]


@settings(deadline=None)
@given(RIGHT, st.sampled_from(BINARY_METRICS), st.floats(1e-9, 1), st.sampled_from([None, 0.9, 0.99]))
def test_a_candidate_equal_to_the_champion_is_never_superior(
    right: list[bool], metric: str, by: float, confidence: float | None
) -> None:
    same = answers(right)
    spec = GateSpec(metric=metric, versus="champion", at_least_by=by, confidence=confidence, min_examples=1)
    assert not decide(same, same, Policy((spec,))).passed


@settings(deadline=None)
@given(RIGHT, st.sampled_from(["accuracy", "macro_f1", "loss"]), st.none() | st.floats(0, 1), st.sampled_from([None, 0.9, 0.99]))
def test_a_candidate_equal_to_the_champion_is_never_worse(
    right: list[bool], metric: str, margin: float | None, confidence: float | None
) -> None:
    same = answers(right)
    spec = GateSpec(metric=metric, versus="champion", margin=margin, confidence=confidence, min_examples=1)
    assert decide(same, same, Policy((spec,))).passed


@settings(deadline=None)
@given(RIGHT, st.sampled_from([math.nan, math.inf, -math.inf]), st.integers(0, 39), st.sampled_from([0.0, 1e300, -1e300]))
def test_a_value_that_is_not_finite_never_passes_a_gate(right: list[bool], odd: float, place: int, threshold: float) -> None:
    finite = answers(right)
    loss = list(finite.loss)
    loss[place % len(loss)] = odd
    candidate = dataclasses.replace(finite, loss=tuple(loss))
    gates = [
        GateSpec(metric="loss", at_least=threshold, min_examples=1),
        GateSpec(metric="loss", at_most=threshold, min_examples=1),
        GateSpec(metric="loss", versus="champion", margin=1e300, min_examples=1),
        GateSpec(metric="loss", versus="champion", margin=1e300, min_examples=1, confidence=0.9),
    ]
    for spec in gates:
        assert not decide(candidate, finite, Policy((spec,))).passed
        if spec.versus:
            assert not decide(finite, candidate, Policy((spec,))).passed


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_threshold_that_is_not_finite_is_no_condition(odd: float) -> None:
    right = answers([True] * 40)
    for name in ("at_least", "at_most"):
        assert not decide(right, right, Policy((GateSpec(metric="accuracy", **{name: odd}),))).passed
    unlimited = GateSpec.model_construct(metric="accuracy", versus="champion", margin=odd)
    assert not decide(right, right, Policy((unlimited,))).passed


@settings(deadline=None)
@given(
    RIGHT, st.lists(st.booleans(), min_size=40, max_size=40), st.none() | st.floats(1e-9, 1), st.sampled_from([None, 0.9, 0.95])
)
def test_a_candidate_that_is_worse_everywhere_never_passes(
    champion: list[bool], also: list[bool], by: float | None, confidence: float | None
) -> None:
    if True not in champion:
        champion = [True, *champion]
    wrong = champion.index(True)
    # Wrong wherever the champion is wrong, at least once where it is right, and less sure of every answer.
    candidate = [ok and keep and i != wrong for i, (ok, keep) in enumerate(zip(champion, [*also, *also], strict=False))]
    for metric in ("accuracy", "loss"):
        spec = GateSpec(metric=metric, versus="champion", at_least_by=by, confidence=confidence, min_examples=1)
        assert not decide(answers(candidate, loss=0.6), answers(champion), Policy((spec,))).passed


@settings(deadline=None)
@given(any_predictions(), st.none() | any_predictions(), st.sampled_from(["none", "required"]))
def test_without_gates_nothing_is_promoted(candidate: Predictions, champion: Predictions | None, approval: str) -> None:
    assert not decide(candidate, champion, Policy((), approval)).passed  # type: ignore[arg-type]


@settings(deadline=None)
@given(RIGHT, st.lists(any_gates, min_size=1, max_size=3), any_gates)
def test_another_gate_never_turns_a_rejection_into_a_promotion(right: list[bool], gates: list[GateSpec], more: GateSpec) -> None:
    candidate, champion = answers(right), answers(right[::-1])
    if not decide(candidate, champion, Policy(tuple(gates))).passed:
        assert not decide(candidate, champion, Policy((*gates, more))).passed
