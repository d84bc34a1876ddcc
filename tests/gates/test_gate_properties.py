"""What holds for all predictions and all gates, well-formed or not."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from statistics import NormalDist

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from softprompt_core.evaluation import Predictions, bootstrap, metric_value
from softprompt_core.gates import Decision, Policy, decide
from softprompt_core.spec import GateSpec
from softprompt_core.spec.gates import FACTS
from tests.gates.predictions import METRICS, NUMBERS, answers, any_gates, any_predictions, share, with_fields

RIGHT = st.lists(st.booleans(), min_size=1, max_size=40)
BINARY_METRICS = [m for m in METRICS if m not in ("f1/", "bleu", "nonsense", "", *FACTS)]


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
    st.dictionaries(st.sampled_from(FACTS), NUMBERS),
)
def test_decide_never_raises_and_passes_only_on_passed_gates(
    candidate: Predictions,
    champion: Predictions | None,
    gates: list[GateSpec],
    hard: Predictions | None,
    same_rows: bool,
    facts: dict[str, float],
) -> None:
    if same_rows and champion is not None and len(champion) >= len(candidate):
        rows = len(candidate)
        champion = with_fields(candidate, predicted=champion.predicted[:rows], loss=champion.loss[:rows])
    decision = decide(candidate, champion, Policy(tuple(gates)), {} if hard is None else {"hard_prompt": hard}, facts)
    statuses = [r.status for r in decision.results]
    assert len(statuses) == len(gates)
    assert decision.passed == ("passed" in statuses and "failed" not in statuses)
    assert all(r.reason and r.gate for r in decision.results)
    assert Decision.model_validate_json(json.dumps(decision.model_dump(mode="json"), allow_nan=False)) == decision
    assert decision.to_markdown().startswith(decision.verdict) and decision.to_text().startswith(decision.verdict)
    for spec, result in zip(gates, decision.results, strict=True):
        if result.status == "passed" and spec.slice == "*":
            assert {"passed"} <= {part.status for part in result.parts} <= {"passed", "skipped"}
        elif result.status == "passed":
            value = facts[spec.metric] if spec.metric in FACTS else metric_value(candidate, spec.metric, slice=spec.slice)
            assert math.isfinite(value)
        if result.status == "skipped":
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
@given(RIGHT, st.sampled_from(["accuracy", "macro_f1", "loss"]), st.none() | st.floats(0, 1), st.sampled_from([0.9, 0.99]))
def test_a_candidate_equal_to_the_champion_is_never_worse(
    right: list[bool], metric: str, margin: float | None, confidence: float
) -> None:
    same = answers(right)
    as_it_is = GateSpec(metric=metric, versus="champion", margin=margin, min_examples=1)
    not_shown_worse = as_it_is.model_copy(update={"confidence": confidence, "in_doubt": "pass"})
    assert decide(same, same, Policy((as_it_is, not_shown_worse))).passed


@settings(deadline=None)
@given(st.integers(1, 2000), st.floats(0.001, 0.5), st.sampled_from([0.9, 0.95, 0.99]))
def test_that_equal_candidates_are_not_worse_is_shown_only_by_enough_rows(rows: int, margin: float, confidence: float) -> None:
    z = NormalDist().inv_cdf(confidence)
    bound = z**2 / (rows + z**2)  # Tango's bound where no row differs
    assume(abs(bound - margin) > 1e-9)
    same = share(rows // 2, rows)
    spec = GateSpec(metric="accuracy", versus="champion", margin=margin, confidence=confidence, min_examples=1)
    assert decide(same, same, Policy((spec,))).passed == (bound < margin)


@settings(deadline=None)
@given(RIGHT, st.sampled_from([math.nan, math.inf, -math.inf]), st.integers(0, 39), st.sampled_from([0.0, 1e300, -1e300]))
def test_a_value_that_is_not_finite_never_passes_a_gate(right: list[bool], odd: float, index: int, threshold: float) -> None:
    finite = answers(right)
    loss = list(finite.loss)
    loss[index % len(loss)] = odd
    candidate = with_fields(finite, loss=tuple(loss))
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
    conditions = ({"at_least": odd}, {"at_most": odd}, {"versus": "champion", "margin": odd}, {"versus": "champion", "by": odd})
    for condition in conditions:
        with pytest.raises(ValidationError, match=r"finite number|greater than or equal"):
            GateSpec.model_validate({"metric": "accuracy", **condition})
        unchecked = GateSpec.model_construct(metric="accuracy", **condition)  # as another program might make one
        assert not decide(right, right, Policy((unchecked,))).passed


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


@settings(deadline=None)
@given(
    st.lists(st.booleans(), min_size=5, max_size=60),
    st.integers(1, 60),
    st.floats(0, 0.9),
    st.sampled_from([None, 0.9, 0.95]),
    st.sampled_from(["auto", "bootstrap"]),
)
def test_a_candidate_that_is_worse_by_more_than_the_margin_never_passes(
    kept: list[bool], worse: int, share_of_deficit: float, confidence: float | None, test: str
) -> None:
    """Right only where the champion is, so worse everywhere; the margin is smaller than the deficit."""
    rows = len(kept)
    worse = min(worse, rows)
    candidate, champion = [ok and i >= worse for i, ok in enumerate(kept)], [ok or i < worse for i, ok in enumerate(kept)]
    fields = dict(metric="accuracy", versus="champion", margin=share_of_deficit * worse / rows, min_examples=1)
    spec = GateSpec.model_validate(fields | (dict(confidence=confidence, test=test) if confidence else {}))
    assert not decide(answers(candidate), answers(champion), Policy((spec,))).passed


CONDITIONS = st.sampled_from([("margin", 0.0), ("margin", 0.05), ("by", 0.0), ("by", 0.05)])


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 60), st.integers(2, 5), CONDITIONS)
def test_more_rows_of_the_same_kind_never_flip_a_clear_verdict(
    wins: int, losses: int, same: int, times: int, condition: tuple[str, float]
) -> None:
    """A pass stays a pass; a candidate that misses the requirement on its face fails however many rows there are."""
    rows = wins + losses + same
    assume(rows)
    candidate = [True] * wins + [False] * losses + [True] * same
    champion = [False] * wins + [True] * losses + [True] * same
    kind, amount = condition
    spec = GateSpec.model_validate(dict(metric="accuracy", versus="champion", confidence=0.95, min_examples=1) | {kind: amount})
    once = decide(answers(candidate), answers(champion), Policy((spec,))).passed
    more = decide(answers(candidate * times), answers(champion * times), Policy((spec,))).passed
    assert more or not once
    if (wins - losses) / rows < (amount if kind == "by" else -amount) - 1e-9:
        assert not once and not more


@settings(deadline=None, max_examples=20)
@given(st.integers(20, 40), st.integers(2, 3), st.floats(0.1, 0.3), st.booleans())
def test_more_rows_of_the_same_kind_never_flip_a_clear_bootstrap_verdict(rows: int, times: int, gap: float, better: bool) -> None:
    """Losses that are many standard errors apart from what is required."""
    noise = [0.02 * math.sin(i) for i in range(rows)]
    theirs, ours = [1 + n for n in noise], [1 + (-gap if better else gap) + n / 2 for n in noise]
    spec = GateSpec(metric="loss", versus="champion", by=0.05, confidence=0.95, min_examples=1)

    def passed(often: int) -> bool:
        right = answers([True] * rows * often)
        candidate, champion = (with_fields(right, loss=tuple(losses * often)) for losses in (ours, theirs))
        return decide(candidate, champion, Policy((spec,))).passed

    assert passed(1) == passed(times) == better
