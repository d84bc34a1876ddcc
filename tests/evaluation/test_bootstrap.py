from __future__ import annotations

import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from softprompt_core.evaluation.bootstrap import RESAMPLES, Resampled, resample

ROWS = np.arange(200)
# Hours of sleep gained with two drugs by ten people (Student, 1908): second minus first, mean 1.58.
SLEEP = np.array([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])


def test_the_interval_is_that_of_the_paired_t_test_for_many_rows() -> None:
    rng = np.random.default_rng(1)
    easy = rng.normal(size=200) * 10  # what the rows have in common must cancel out
    gain = rng.normal(0.3, 1, 200)
    resampled = resample(lambda r: (easy + gain)[r].mean(), lambda r: easy[r].mean(), ROWS, 1.0)
    error = gain.std(ddof=1) / math.sqrt(200)
    assert resampled.interval(0.95) == pytest.approx((gain.mean() - 1.653 * error, gain.mean() + 1.653 * error), abs=0.015)
    assert resampled.standard_error() == pytest.approx(error, rel=0.05)
    assert resampled.p_below(0.2) == pytest.approx(NormalDist().cdf((0.2 - gain.mean()) / error), abs=0.02)
    assert resampled.p_reached(0.4) == pytest.approx(NormalDist().cdf((gain.mean() - 0.4) / error), abs=0.02)


def test_students_sleep_data_agree_with_scipys_bootstrap() -> None:
    ours = resample(lambda r: SLEEP[r].mean(), lambda r: 0.0, np.arange(10), 1.0)
    settings = dict(confidence_level=0.9, method="percentile", n_resamples=20_000, rng=np.random.default_rng(2))
    theirs = stats.bootstrap((SLEEP,), np.mean, **settings).confidence_interval
    assert ours.interval(0.95) == pytest.approx((theirs.low, theirs.high), abs=0.05)
    # A resample reaches the requirement "0 or less" only with nine or ten draws of the one zero: below 1e-8 of them.
    assert ours.p_below(0.0, strict=True) == 1 / (1 + RESAMPLES)


def test_the_sign_turns_the_interval() -> None:
    values = np.linspace(0, 1, 200)
    low, high = resample(lambda r: values[r].mean(), lambda r: 0.0, ROWS, 1.0).interval(0.9)
    assert resample(lambda r: values[r].mean(), lambda r: 0.0, ROWS, -1.0).interval(0.9) == pytest.approx((-high, -low), abs=2e-3)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99, 0.999])
def test_a_requirement_within_the_interval_is_one_whose_p_value_is_small(confidence: float) -> None:
    resampled = Resampled(np.random.default_rng(3).normal(size=RESAMPLES))
    low, high = resampled.interval(confidence)
    assert resampled.p_below(low) <= 1 - confidence < resampled.p_below(low + 0.05)
    assert resampled.p_reached(high + 1e-9) <= 1 - confidence < resampled.p_reached(high - 0.05)


def test_undefined_resamples_count_as_the_worst_case() -> None:
    # 3% undefined and 3% at -0.5: the lowest 5% end among the latter only if the former count as lower still.
    calls = itertools.cycle([math.nan] * 3 + [-0.5] * 3 + [1.0] * 94)
    assert RESAMPLES % 100 == 0
    resampled = resample(lambda r: next(calls), lambda r: 0.0, ROWS, 1.0)
    assert resampled.interval(0.95) == (-0.5, 1.0) and resampled.standard_error() is None
    assert resampled.p_below(-1) == pytest.approx(0.03, abs=1e-3) and resampled.p_reached(2) == pytest.approx(0.03, abs=1e-3)
    mostly = itertools.cycle([math.nan] * 6 + [1.0] * 94)
    assert resample(lambda r: next(mostly), lambda r: 0.0, ROWS, 1.0).interval(0.95) == (-math.inf, math.inf)


def test_without_any_difference_there_is_no_standard_error() -> None:
    assert resample(lambda r: 0.5, lambda r: 0.5, ROWS, 1.0).standard_error() is None
