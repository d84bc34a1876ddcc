"""Gates on every slice, with Holm's correction, and gates on the prompt itself."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from softprompt_core.gates import Decision, GateResult, Policy, decide
from softprompt_core.spec import GateSpec
from tests.gates.predictions import answers, share


def gate(**fields: object) -> GateSpec:
    return GateSpec.model_validate({"metric": "accuracy", "slice": "*", "versus": "champion"} | fields)


def sliced(*slices: tuple[int, int, int, int]) -> tuple[object, object]:
    """Candidate and champion over disjoint slices, each of (rows, both right, candidate alone, champion alone)."""
    ours: list[bool] = []
    theirs: list[bool] = []
    for rows, both, wins, losses in slices:
        neither = rows - both - wins - losses
        ours += [True] * both + [True] * wins + [False] * losses + [False] * neither
        theirs += [True] * both + [False] * wins + [True] * losses + [False] * neither
    start, flags = 0, {}
    for index, (rows, *_) in enumerate(slices):
        flags[f"s{index}"] = [start <= i < start + rows for i in range(len(ours))]
        start += rows
    return answers(ours, slices=flags), answers(theirs, slices=flags)


def gate_result(spec: GateSpec, candidate: object, champion: object = None, **facts: float) -> GateResult:
    decision = decide(candidate, champion, Policy((spec,)), facts=facts)  # type: ignore[arg-type]
    assert Decision.model_validate(decision.model_dump(mode="json")) == decision
    return decision.results[0]


def test_every_slice_must_pass_and_the_worst_is_named() -> None:
    candidate, champion = sliced((40, 30, 0, 0), (40, 30, 0, 2), (40, 20, 0, 6))
    result = gate_result(gate(margin=0.01), candidate, champion)
    assert [(p.slice, p.status, p.rows) for p in result.parts] == [
        ("s0", "passed", 40),
        ("s1", "failed", 40),
        ("s2", "failed", 40),
    ]
    assert result.status == "failed" and result.reason.startswith("2 of 3 slices failed: s2: 0.15 worse than the champion")
    assert gate_result(gate(margin=0.15), candidate, champion).status == "passed"
    assert gate_result(GateSpec(metric="accuracy", slice="*", at_least=0.5), candidate).reason == "3 slices passed"


def test_small_slices_are_named_and_not_checked_and_one_must_be_large_enough() -> None:
    candidate, champion = sliced((40, 30, 0, 0), (19, 1, 0, 9), (3, 0, 0, 3))
    result = gate_result(gate(), candidate, champion)
    assert result.status == "passed" and result.reason == "1 slice passed; too few rows to check: s1, s2"
    assert [p.status for p in result.parts] == ["passed", "skipped", "skipped"]
    assert "only 19 test rows for accuracy, 20 needed" in result.parts[1].reason
    assert gate_result(gate(min_examples=19), candidate, champion).status == "failed"
    assert gate_result(gate(min_examples=41), candidate, champion).status == "failed"
    without, _ = answers([True] * 40), None
    assert "there are no slices" in gate_result(gate(), without, without).reason


def test_a_slice_that_cannot_be_measured_fails() -> None:
    candidate, champion = sliced((40, 30, 0, 0), (40, 30, 0, 0))
    result = gate_result(gate(metric="ece"), candidate, champion)
    assert result.status == "failed" and "no finite value" in result.reason
    assert "not a metric" in gate_result(gate(metric="acuracy"), candidate, champion).reason
    assert "not the same rows" in gate_result(gate(), candidate, share(60, 80)).reason


def test_the_confidence_is_that_of_all_slices_together() -> None:
    """Each slice alone is shown to be better (p = 1/32 = 0.031); of four such slices, not all at once at 5 %."""
    slice = (40, 20, 5, 0)
    alone = gate(by=0, confidence=0.95, slice="s0")
    candidate, champion = sliced(slice)
    assert gate_result(alone, candidate, champion).p_value == pytest.approx(1 / 32)
    assert gate_result(gate(by=0, confidence=0.95), candidate, champion).status == "passed"
    candidate, champion = sliced(slice, slice, slice, slice)
    assert gate_result(alone, candidate, champion).status == "passed"
    result = gate_result(gate(by=0, confidence=0.95), candidate, champion)
    assert result.status == "failed" and [p.p_value for p in result.parts] == pytest.approx([4 / 32] * 4)


def test_in_doubt_pass_stops_a_slice_that_is_shown_to_be_worse_and_no_other() -> None:
    """Ten slices in which the candidate happens to lose one row; then one that really got worse."""
    noise = [(40, 30, 1, 2)] * 9
    lenient = gate(confidence=0.95, in_doubt="pass")
    assert gate_result(gate(), *sliced(*noise, noise[0])).status == "failed"
    assert gate_result(lenient, *sliced(*noise, noise[0])).status == "passed"
    assert gate_result(gate(confidence=0.95), *sliced(*noise, noise[0])).status == "failed"
    result = gate_result(lenient, *sliced(*noise, (40, 20, 0, 12)))
    assert result.status == "failed" and [p.slice for p in result.parts if p.status == "failed"] == ["s9"]
    assert "95% sure of" in result.parts[9].reason
    # Five of five lost rows have p = 0.031: shown on one slice, an accident that ten slices make likely.
    assert gate_result(lenient, *sliced((40, 30, 0, 5))).status == "failed"
    assert gate_result(lenient, *sliced(*noise, (40, 30, 0, 5))).status == "passed"


def test_every_slice_shows_what_its_rows_could_have_shown() -> None:
    candidate, champion = sliced((400, 350, 10, 10), (40, 35, 1, 1))
    large, small = gate_result(gate(margin=0.5), candidate, champion).parts
    assert large.detectable is not None and small.detectable is not None and large.detectable < small.detectable / 2
    text = decide(candidate, champion, Policy((gate(margin=0.5),))).to_text()  # type: ignore[arg-type]
    assert f"40 rows can show {small.detectable:.2g}" in text and len(text.splitlines()) == 4


@pytest.mark.parametrize(
    ("fields", "value", "status", "reason"),
    [
        (dict(metric="size_bytes", at_most=200_000), 84_021.0, "passed", "84021 is within 200000"),
        (dict(metric="size_bytes", at_most=84_020), 84_021.0, "failed", "84021 is above 84020"),
        (dict(metric="prompt_norm", at_least=0.5, at_most=5), 0.51, "passed", "0.51 is between 0.5 and 5"),
        (dict(metric="prompt_norm", at_least=0.5, at_most=5), 0.49, "failed", "0.49 is below 0.5"),
        (dict(metric="prompt_norm", at_least=0.5, at_most=5), 5.1, "failed", "5.1 is above 5"),
        (dict(metric="seed_spread", at_most=0.05), 0.8 - 0.75, "passed", "0.05 is within 0.05"),
        (dict(metric="diverged_seeds", at_most=0), 1.0, "failed", "1 is above 0"),
        (dict(metric="best_step", at_least=1), 0.0, "failed", "0 is below 1"),
        (dict(metric="seed_spread", at_most=0.05), None, "failed", "seed_spread of the candidate is not known"),
        (dict(metric="seed_spread", at_most=0.05), float("nan"), "failed", "seed_spread of the candidate is not known"),
    ],
)
def test_facts_are_gated_like_metrics(fields: dict, value: float | None, status: str, reason: str) -> None:  # type: ignore[type-arg]
    facts = {} if value is None else {fields["metric"]: value}
    result = gate_result(GateSpec.model_validate(fields), share(1, 1), **facts)
    assert (result.status, result.reason, result.rows) == (status, reason, None)
    assert result.candidate == (value if reason[0].isdigit() else None)


def test_a_range_can_be_asked_of_a_metric_too() -> None:
    spec = GateSpec(metric="accuracy", at_least=0.5, at_most=0.9)
    assert [gate_result(spec, share(n, 20)).status for n in (9, 10, 18, 19)] == ["failed", "passed", "passed", "failed"]
    assert gate_result(spec, share(19, 20)).gate == "accuracy between 0.5 and 0.9"


def test_any_lead_is_enough_for_by_zero_and_no_lead_is_not() -> None:
    champion = share(20, 40)
    lead = gate(by=0, slice=None)
    assert [gate_result(lead, share(n, 40), champion).status for n in (19, 20, 21)] == ["failed", "failed", "passed"]
    sure = gate(by=0, slice=None, confidence=0.95)
    assert [gate_result(sure, share(n, 40), champion).status for n in (20, 24, 25)] == ["failed", "failed", "passed"]
    by_loss = gate(by=0, slice=None, metric="loss", confidence=0.95)
    assert [gate_result(by_loss, share(20, 40, loss=x), champion).status for x in (0.6, 0.5, 0.4)] == [
        "failed",
        "failed",
        "passed",
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (dict(at_least=0.5, at_most=0.4), "nothing can pass"),
        (dict(versus="champion", by=0.1, at_least_by=0.1), "two names of one key"),
        (dict(versus="champion", test="bootstrap"), "`test` goes with `confidence`"),
        (dict(versus="champion", metric="loss", test="mcnemar", confidence=0.9), "right or wrong"),
        (dict(versus="champion", in_doubt="pass"), "goes with `confidence` and `margin`"),
        (dict(versus="champion", in_doubt="pass", confidence=0.9, by=0.1), "goes with `confidence` and `margin`"),
        (dict(at_least=0.5, in_doubt="pass"), "go with `versus`"),
        (dict(metric="size_bytes", versus="champion"), "about the prompt itself"),
        (dict(metric="prompt_norm", at_most=1, slice="long"), "about the prompt itself"),
    ],
)
def test_conditions_that_make_no_sense_are_refused(fields: dict, words: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValidationError, match=words):
        GateSpec.model_validate({"metric": "accuracy"} | fields)


def test_at_least_by_is_an_older_name_of_by() -> None:
    assert GateSpec.model_validate(dict(metric="accuracy", versus="champion", at_least_by=0.1)).by == 0.1
    assert "at_least_by" not in GateSpec(metric="accuracy", versus="champion", by=0.1).model_dump()
