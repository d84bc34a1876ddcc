"""The one word, from what the tests found."""

from __future__ import annotations

import itertools

import pytest

from softprompt_core.errors import Health, Outcome
from softprompt_core.monitoring import Finding, Verdict, conclude

OK, WORSE, UNKNOWN = (Finding("accuracy", status, f"accuracy is {status}") for status in ("ok", "worse", "unknown"))  # type: ignore[arg-type]
SAME, SHIFTED = Finding("input length", "ok", "same length"), Finding("input content", "shifted", "other content")


def word(quality: Finding | None, *shifts: Finding, rows: int = 100, bad: int = 0) -> Verdict:
    return conclude(quality, shifts, rows=rows, bad=bad, min_rows=50)


@pytest.mark.parametrize(
    "verdict, health",
    [
        (word(OK, SAME), Health.HEALTHY),
        (word(OK, SHIFTED), Health.HEALTHY),  # answers are still right
        (word(WORSE, SAME), Health.DEGRADED),
        (word(UNKNOWN, SAME), Health.UNKNOWN),
        (word(None, SAME), Health.HEALTHY),
        (word(None, SAME, SHIFTED), Health.UNKNOWN),
        (word(None), Health.UNKNOWN),
        (word(WORSE, rows=49), Health.UNKNOWN),
        (word(OK, rows=100, bad=20), Health.UNKNOWN),
        (word(WORSE, rows=100, bad=20), Health.DEGRADED),
    ],
)
def test_the_table_of_verdicts(verdict: Verdict, health: Health) -> None:
    assert verdict.health is health and verdict.reason.endswith(".")


def test_a_shift_is_told_beside_good_answers() -> None:
    assert "Remark: other content" in word(OK, SHIFTED).reason


def test_labelled_rows_that_are_no_worse_never_degrade_and_unlabelled_ones_never_can() -> None:
    for quality, shift, rows, bad in itertools.product((OK, UNKNOWN, None), (SAME, SHIFTED), (0, 60), (0, 90)):
        assert word(quality, shift, rows=rows, bad=bad).health is not Health.DEGRADED


def test_exit_codes_are_of_their_own_and_only_healthy_is_0() -> None:
    assert {health: health.exit_code for health in Health} == {Health.HEALTHY: 0, Health.DEGRADED: 21, Health.UNKNOWN: 31}
    taken = {outcome.exit_code for outcome in Outcome} - {0}
    assert not taken & {health.exit_code for health in Health}
