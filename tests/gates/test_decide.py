"""What each rule of the gates does, on predictions small enough to check by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from softprompt_core.errors import Outcome
from softprompt_core.fingerprint import fingerprint
from softprompt_core.gates import Decision, GateResult, Policy, decide
from softprompt_core.spec import GateSpec
from tests.gates.predictions import answers, share, with_fields

STORED = Path(__file__).parent / "stored"


def gate(**fields: object) -> GateSpec:
    return GateSpec.model_validate({"metric": "accuracy"} | fields)


def gate_result(spec: GateSpec, candidate, champion=None, **baselines) -> GateResult:  # type: ignore[no-untyped-def]
    decision = decide(candidate, champion, Policy((spec,)), baselines)
    assert decision.passed == (decision.results[0].status == "passed")
    return decision.results[0]


def test_no_gates_no_promotion() -> None:
    decision = decide(share(40, 40), share(1, 40), Policy(()))
    assert (decision.passed, decision.outcome) == (False, Outcome.REJECTED)
    assert "No gates, no promotion" in decision.verdict


def test_all_gates_passed_promotes_or_waits_for_approval() -> None:
    gates = (gate(at_least=0.5), gate(metric="loss", at_most=1))
    waits = decide(share(30, 40), None, Policy(gates, "required"))
    promoted = {"outcome": Outcome.PROMOTED, "verdict": "All 2 gates passed."}
    assert decide(share(30, 40), None, Policy(gates)) == waits.model_copy(update=promoted)
    assert (waits.passed, waits.outcome) == (True, Outcome.AWAITING_APPROVAL)
    assert waits.verdict == "All 2 gates passed; a person must approve."


def test_an_unknown_approval_setting_waits_for_a_person() -> None:
    assert decide(share(30, 40), None, Policy((gate(at_least=0.5),), "nobody")).outcome is Outcome.AWAITING_APPROVAL  # type: ignore[arg-type]


def test_one_failed_gate_rejects_and_the_verdict_names_it() -> None:
    decision = decide(share(30, 40), None, Policy((gate(at_least=0.5), gate(at_least=0.9), gate(at_least=0.95))))
    assert (decision.passed, decision.outcome) == (False, Outcome.REJECTED)
    assert [r.status for r in decision.results] == ["passed", "failed", "failed"]
    assert decision.verdict == "2 of 3 gates failed: accuracy at least 0.9: 0.75 is below 0.9 (and 1 more)."


@pytest.mark.parametrize(
    ("spec", "status"),
    [
        (gate(at_least=0.85), "passed"),
        (gate(at_least=0.8500001), "failed"),
        (gate(metric="loss", at_most=0.5), "passed"),
        (gate(metric="loss", at_most=0.4), "failed"),
        (gate(metric="loss", at_least=0.4), "passed"),
    ],
)
def test_a_threshold_is_reached_by_an_equal_value(spec: GateSpec, status: str) -> None:
    assert gate_result(spec, share(17, 20)).status == status


@pytest.mark.parametrize(
    ("candidate", "margin", "status"), [(16, 0.05, "passed"), (15, 0.05, "failed"), (17, None, "passed"), (16, None, "failed")]
)
def test_the_margin_is_how_much_worse_a_candidate_may_be(candidate: int, margin: float | None, status: str) -> None:
    # 16/20 - 17/20 is -0.04999999999999993, and other such pairs fall on the other side.
    assert gate_result(gate(versus="champion", margin=margin), share(candidate, 20), share(17, 20)).status == status


@pytest.mark.parametrize(("candidate", "status"), [(18, "passed"), (17, "failed"), (19, "passed")])
def test_at_least_by_is_how_much_better_it_must_be(candidate: int, status: str) -> None:
    result = gate_result(gate(versus="hard_prompt", at_least_by=0.05), share(candidate, 20), hard_prompt=share(17, 20))
    assert (result.status, result.reference, result.required) == (status, 0.85, 0.05)


def test_every_margin_in_twentieths_passes_exactly_at_its_edge() -> None:
    for champion in range(21):
        for worse in range(champion + 1):
            spec = gate(versus="champion", margin=worse / 20)
            assert gate_result(spec, share(champion - worse, 20), share(champion, 20)).status == "passed"
            if champion - worse:
                assert gate_result(spec, share(champion - worse - 1, 20), share(champion, 20)).status == "failed"


def test_for_loss_and_calibration_lower_is_better() -> None:
    low, high = share(10, 20, loss=0.4), share(10, 20, loss=0.5)
    for confidence in (None, 0.95):
        better = gate(metric="loss", versus="champion", at_least_by=0.05, confidence=confidence)
        not_worse = gate(metric="loss", versus="champion", margin=0.05, confidence=confidence)
        assert [gate_result(g, low, high).status for g in (better, not_worse)] == ["passed", "passed"]
        assert [gate_result(g, high, low).status for g in (better, not_worse)] == ["failed", "failed"]
    sure = with_fields(low, scores=tuple((0.0, -9.0) if p == "no" else (-9.0, 0.0) for p in low.predicted))
    unsure = with_fields(low, scores=((-0.7, -0.7),) * 20)
    calibrated = gate(metric="ece", versus="champion")
    assert (gate_result(calibrated, unsure, sure).status, gate_result(calibrated, sure, unsure).status) == ("passed", "failed")


def test_a_first_version_skips_gates_against_the_champion() -> None:
    gates = (gate(versus="champion"), gate(at_least=0.5))
    decision = decide(share(30, 40), None, Policy(gates))
    assert decision.passed and [r.status for r in decision.results] == ["skipped", "passed"]
    assert decision.verdict == "1 gate passed, 1 skipped because there is no champion to compare with."
    assert not decide(share(10, 40), None, Policy(gates)).passed


def test_a_first_version_needs_a_gate_that_does_not_compare_with_a_champion() -> None:
    decision = decide(share(40, 40), None, Policy((gate(versus="champion"), gate(versus="champion", margin=1))))
    assert (decision.passed, decision.outcome) == (False, Outcome.REJECTED)
    assert "A first version needs at least one gate" in decision.verdict


def test_too_few_rows_fail_and_say_so() -> None:
    assert gate_result(gate(at_least=0), share(20, 20)).status == "passed"
    result = gate_result(gate(at_least=0), share(19, 19))
    assert (
        (result.status, result.rows) == ("failed", 19) and "only 19 test rows" in result.reason and "20 needed" in result.reason
    )
    assert gate_result(gate(at_least=0, min_examples=5), share(5, 5)).status == "passed"


def test_a_label_metric_needs_enough_rows_with_that_label() -> None:
    candidate = share(39, 39)  # 20 rows "no", 19 rows "yes"
    assert gate_result(gate(metric="recall/no", at_least=0), candidate).status == "passed"
    assert "only 19 test rows" in gate_result(gate(metric="recall/yes", at_least=0), candidate).reason


def test_a_label_metric_is_compared_on_the_rows_of_that_label() -> None:
    champion = answers([i >= 8 for i in range(80)])  # the first four "no" rows and four "yes" rows wrong
    candidate = answers([i >= 8 or i % 2 == 0 for i in range(80)])  # the "no" rows right
    result = gate_result(gate(metric="recall/no", versus="champion", confidence=0.95), candidate, champion)
    assert (result.wins, result.losses, result.rows, result.test) == (4, 0, 40, "mcnemar")
    assert result.status == "failed" and result.p_value == pytest.approx(1 / 16)


def test_a_slice_gate_looks_at_its_slice_only() -> None:
    long = {"long": [i < 20 for i in range(40)]}
    candidate = answers([i >= 5 for i in range(40)], slices=long)  # 15/20 there, 35/40 overall
    assert gate_result(gate(at_least=0.8), candidate).status == "passed"
    result = gate_result(gate(at_least=0.8, slice="long"), candidate)
    assert (result.status, result.candidate, result.rows) == ("failed", 0.75, 20)
    champion = answers([i < 16 for i in range(40)], slices=long)  # 16/20 there
    assert gate_result(gate(versus="champion", slice="long", margin=0.05), candidate, champion).status == "passed"
    assert gate_result(gate(versus="champion", slice="long", margin=0.04), candidate, champion).status == "failed"
    assert "slice short is missing" in gate_result(gate(at_least=0, slice="short"), candidate).reason


def test_other_rows_cannot_be_compared() -> None:
    candidate = share(30, 40, slices={"long": [True] * 40})
    others = {
        "other ids": with_fields(candidate, ids=tuple(f"new/{i}" for i in range(40))),
        "other order": with_fields(candidate, ids=candidate.ids[::-1]),
        "other gold": with_fields(candidate, gold=candidate.gold[::-1]),
        "fewer rows": share(30, 39),
    }
    for why, champion in others.items():
        result = gate_result(gate(versus="champion", margin=1), candidate, champion)
        assert result.status == "failed" and "not the same rows" in result.reason, why
        assert gate_result(gate(versus="majority", margin=1), candidate, majority=champion).status == "failed", why
    moved = with_fields(candidate, slices={"long": (True,) * 39 + (False,)})
    assert "not the same rows" in gate_result(gate(versus="champion", margin=1, slice="long"), candidate, moved).reason


def test_a_baseline_that_was_not_evaluated_fails() -> None:
    result = gate_result(gate(versus="hard_prompt", at_least_by=0.05), share(40, 40), share(1, 40), majority=share(1, 40))
    assert result.status == "failed" and "the hard prompt was not evaluated" in result.reason


def test_unknown_metrics_fail_and_the_known_ones_are_listed() -> None:
    result = gate_result(gate(metric="acuracy", at_least=0), share(40, 40))
    assert result.status == "failed" and "accuracy, macro_f1, loss" in result.reason
    assert gate_result(gate(metric="f1/maybe", at_least=0), share(40, 40)).status == "failed"


def test_nan_in_the_champion_fails_too() -> None:
    result = gate_result(gate(metric="loss", versus="champion", margin=1), share(30, 40), share(30, 40, loss=math.nan))
    assert result.status == "failed" and "loss of the champion has no finite value" in result.reason


def test_a_small_lead_passes_without_confidence_and_fails_with_it() -> None:
    champion = answers([i % 4 != 0 for i in range(100)])  # 75 right
    candidate = answers([i % 4 != 0 for i in range(98)] + [False, True])  # 74 right
    lead = answers([i % 4 != 0 or i == 0 for i in range(100)])  # 76 right
    assert gate_result(gate(versus="champion", at_least_by=0.01), lead, champion).status == "passed"
    result = gate_result(gate(versus="champion", at_least_by=0.01, confidence=0.95), lead, champion)
    assert result.status == "failed" and result.interval is not None and -0.02 < result.interval[0] < 0.01
    by_bootstrap = gate_result(gate(versus="champion", at_least_by=0.01, confidence=0.95, test="bootstrap"), lead, champion)
    assert by_bootstrap.status == "failed" and by_bootstrap.interval is not None and by_bootstrap.interval[0] == 0.0
    assert gate_result(gate(versus="champion", margin=0.01), candidate, champion).status == "passed"


def test_a_clear_lead_passes_with_confidence() -> None:
    result = gate_result(gate(versus="champion", at_least_by=0.05, confidence=0.95), share(90, 100), share(60, 100))
    assert result.status == "passed" and result.interval is not None
    # 30 wins of 100: about 0.30 ± 1.645·0.046
    assert result.interval == pytest.approx((0.225, 0.375), abs=0.012)


def test_equal_arguments_give_equal_decisions() -> None:
    policy = Policy((gate(metric="macro_f1", versus="champion", margin=0.05, confidence=0.95),))
    assert decide(share(80, 100), share(78, 100), policy) == decide(share(80, 100), share(78, 100), policy)


def test_a_metric_undefined_in_many_resamples_cannot_be_sure() -> None:
    one = [i == 0 for i in range(40)]  # one gold "no" row in the slice, missing from a third of the resamples
    rare = {"rare": [one[i] or i % 2 == 1 for i in range(40)]}
    result = gate_result(gate(metric="f1/no", slice="rare", versus="champion", margin=1, confidence=0.95, min_examples=1),
                   share(40, 40, slices=rare), share(40, 40, slices=rare))  # fmt: skip
    assert result.status == "failed" and "undefined in too many resamples" in result.reason


def test_text_metrics_can_be_gated_with_confidence() -> None:
    gold = tuple(f"the cat number {i} sat on the mat" for i in range(30))
    good = with_fields(share(30, 30), gold=gold, predicted=gold, labels=())
    bad = with_fields(good, predicted=("the dog",) * 30)
    for metric in ("rougeL", "bleu", "exact_match"):
        spec = gate(metric=metric, versus="champion", at_least_by=0.2, confidence=0.95)
        assert (gate_result(spec, good, bad).status, gate_result(spec, bad, good).status) == ("passed", "failed")


def test_a_decision_survives_json_and_shows_its_verdict_first() -> None:
    gates = (
        gate(at_least=0.5),
        gate(versus="champion", confidence=0.9),
        gate(at_least=0.5, slice="a|b"),
        gate(versus="majority"),
    )
    for champion in (share(20, 40), None):
        decision = decide(share(30, 40), champion, Policy(gates))
        assert Decision.model_validate(decision.model_dump(mode="json")) == decision
        markdown = decision.to_markdown().splitlines()
        assert markdown[0] == decision.verdict
        rows = [line for line in markdown if line.startswith("| ") and line[2] in "✓✗–" and line[4] == "|"]
        marks = {"passed": "✓", "failed": "✗", "skipped": "–"}
        assert [row[2] for row in rows] == [marks[r.status] for r in decision.results]
        assert all(row.replace("\\|", "").count("|") == 9 for row in rows)
        text = decision.to_text().splitlines()
        assert text[0] == decision.verdict and len(text) == 5
    assert decide(share(1, 1), None, Policy(())).to_markdown().count("\n") == 1


def test_gates_read_as_sentences() -> None:
    specs = {
        "accuracy at least 0.85": gate(at_least=0.85),
        "loss at most 2": gate(metric="loss", at_most=2),
        "accuracy no worse than the champion by more than 0.005, 95% sure": gate(
            versus="champion", margin=0.005, confidence=0.95
        ),
        "accuracy on slice long no worse than the champion": gate(versus="champion", slice="long"),
        "accuracy better than the hard prompt by at least 0.05": gate(versus="hard_prompt", at_least_by=0.05),
    }
    for words, spec in specs.items():
        assert gate_result(spec, share(1, 1)).gate == words


def test_a_decision_of_the_release_before_reads_and_writes_the_same() -> None:
    stored = json.loads((STORED / "decision.json").read_text(encoding="utf-8"))
    decision = Decision.model_validate(stored)
    written = decision.model_dump(mode="json")
    assert json.dumps(written) == json.dumps(stored)
    assert fingerprint(written) == "42c37888f3fd8837c2782c4d772402a7ae87efeae076d17aa08959d4e8cd4f6d"  # as a ledger names it
    assert decision.to_markdown() == (STORED / "decision.md").read_text(encoding="utf-8")


def test_a_result_of_a_gate_holds_finite_numbers_and_known_fields_only() -> None:
    for wrong in ({"candidate": math.nan}, {"interval": (0.0, math.inf)}, {"another": 1}):
        with pytest.raises(ValidationError):
            GateResult.model_validate({"gate": "g", "status": "passed", "reason": "r", **wrong})
