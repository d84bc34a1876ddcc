"""The verdict that single checks lead to."""

from __future__ import annotations

import itertools
import json

import pytest

from softprompt_core.errors import Health, Outcome
from softprompt_core.monitoring import HealthCheck, Verdict, conclude

OK, WORSE, UNKNOWN = (
    HealthCheck(what="accuracy", status=status, reason=f"accuracy is {status}") for status in ("ok", "worse", "unknown")
)
SAME = HealthCheck(what="input length", status="ok", reason="same length")
DRIFTED = HealthCheck(what="input content", status="shifted", reason="other content")


def verdict_on(quality: HealthCheck | None, *drift: HealthCheck, rows: int = 100, bad: int = 0) -> Verdict:
    return conclude(quality, drift, rows=rows, bad=bad, min_rows=50)


@pytest.mark.parametrize(
    "verdict, health",
    [
        (verdict_on(OK, SAME), Health.HEALTHY),
        (verdict_on(OK, DRIFTED), Health.HEALTHY),  # answers are still right
        (verdict_on(WORSE, SAME), Health.DEGRADED),
        (verdict_on(UNKNOWN, SAME), Health.UNKNOWN),
        (verdict_on(None, SAME), Health.HEALTHY),
        (verdict_on(None, SAME, DRIFTED), Health.UNKNOWN),
        (verdict_on(None), Health.UNKNOWN),
        (verdict_on(WORSE, rows=49), Health.UNKNOWN),
        (verdict_on(OK, rows=100, bad=20), Health.UNKNOWN),
        (verdict_on(WORSE, rows=100, bad=20), Health.DEGRADED),
    ],
)
def test_the_table_of_verdicts(verdict: Verdict, health: Health) -> None:
    assert verdict.health is health and verdict.reason.endswith(".")


def test_a_shift_is_told_beside_good_answers() -> None:
    assert "Remark: other content" in verdict_on(OK, DRIFTED).reason


def test_labelled_rows_that_are_no_worse_never_degrade_and_unlabelled_ones_never_can() -> None:
    for quality, drift, rows, bad in itertools.product((OK, UNKNOWN, None), (SAME, DRIFTED), (0, 60), (0, 90)):
        assert verdict_on(quality, drift, rows=rows, bad=bad).health is not Health.DEGRADED


def test_exit_codes_are_of_their_own_and_only_healthy_is_0() -> None:
    assert {health: health.exit_code for health in Health} == {Health.HEALTHY: 0, Health.DEGRADED: 21, Health.UNKNOWN: 31}
    taken = {outcome.exit_code for outcome in Outcome} - {0}
    assert not taken & {health.exit_code for health in Health}


def test_a_check_is_written_as_the_release_before_wrote_it() -> None:
    numbers = {"p_value": 0.001, "effect": 0.5}
    check = HealthCheck(what="input length", status="shifted", reason="it is long", numbers=numbers)
    written = json.dumps(check.model_dump(mode="json"))
    before = '{"what": "input length", "status": "shifted", "reason": "it is long", "numbers": {"p_value": 0.001, "effect": 0.5}}'
    assert written == before
