from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from softprompt_core.gates.bootstrap import RESAMPLES, paired_interval

ROWS = np.arange(200)


def test_the_interval_is_that_of_the_paired_t_test_for_many_rows() -> None:
    rng = np.random.default_rng(1)
    easy = rng.normal(size=200) * 10  # what the rows have in common must cancel out
    gain = rng.normal(0.3, 1, 200)
    low, high = paired_interval(lambda r: (easy + gain)[r].mean(), lambda r: easy[r].mean(), ROWS, 0.95, 1.0)
    error = gain.std(ddof=1) / math.sqrt(200)
    assert (low, high) == pytest.approx((gain.mean() - 1.653 * error, gain.mean() + 1.653 * error), abs=0.015)


def test_the_sign_turns_the_interval() -> None:
    values = np.linspace(0, 1, 200)
    low, high = paired_interval(lambda r: values[r].mean(), lambda r: 0.0, ROWS, 0.9, 1.0)
    assert paired_interval(lambda r: values[r].mean(), lambda r: 0.0, ROWS, 0.9, -1.0) == pytest.approx((-high, -low), abs=2e-3)


def test_undefined_resamples_count_as_the_worst_case() -> None:
    # 3% undefined and 3% at -0.5: the lowest 5% end among the latter only if the former count as lower still.
    calls = itertools.cycle([math.nan] * 3 + [-0.5] * 3 + [1.0] * 94)
    assert RESAMPLES % 100 == 0
    assert paired_interval(lambda r: next(calls), lambda r: 0.0, ROWS, 0.95, 1.0) == (-0.5, 1.0)
    mostly = itertools.cycle([math.nan] * 6 + [1.0] * 94)
    assert paired_interval(lambda r: next(mostly), lambda r: 0.0, ROWS, 0.95, 1.0) == (-math.inf, math.inf)
