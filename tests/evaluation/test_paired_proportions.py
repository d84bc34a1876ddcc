"""McNemar's test, Tango's interval, the detectable difference and Holm's correction, against published numbers."""

from __future__ import annotations

import math
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from softprompt_core.evaluation.holm import holm
from softprompt_core.evaluation.paired_proportions import detectable, mcnemar_p, score, score_interval, score_p

COUNTS = st.integers(0, 60)


@pytest.mark.parametrize(
    ("wins", "losses", "two_sided", "source"),
    [
        (12, 2, 0.0129, "tubercle bacilli on two media, Armitage & Berry, 1994, p. 127, with Liddell's exact test"),
        (7, 1, 0.070, "airway hyper-responsiveness, Bentur et al., 2009, in Fagerland, Lydersen & Laake, 2013"),
    ],
)
def test_mcnemars_exact_test_gives_the_published_p_values(wins: int, losses: int, two_sided: float, source: str) -> None:
    assert 2 * mcnemar_p(wins, losses) == pytest.approx(two_sided, abs=6e-4 if two_sided == 0.070 else 6e-5), source


@given(COUNTS, COUNTS)
def test_mcnemars_exact_test_is_the_binomial_tail(wins: int, losses: int) -> None:
    differing = wins + losses
    tail = sum(Fraction(math.comb(differing, k), 2**differing) for k in range(wins, differing + 1))
    assert mcnemar_p(wins, losses) == pytest.approx(float(tail), rel=1e-9)
    if differing:
        assert mcnemar_p(wins, losses) == pytest.approx(
            stats.binomtest(wins, differing, 0.5, alternative="greater").pvalue, rel=1e-9
        )


def test_the_score_for_no_difference_is_mcnemars_statistic() -> None:
    # Approval of a prime minister in two surveys, Agresti, 2002, section 10.1: z = -4.17.
    assert score(86, 150, 1600, 0.0) == pytest.approx(-4.17, abs=5e-3)


def test_tangos_interval_is_the_published_one() -> None:
    # Bentur et al. again: 1 against 7 of 21 pairs, (-0.517, -0.026) in Fagerland, Lydersen & Laake, 2014.
    assert score_interval(1, 7, 21, 0.975) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize(
    ("wins", "losses", "rows"), [(40, 20, 160), (1, 7, 21), (0, 5, 50), (12, 2, 50), (3, 3, 30), (0, 0, 100), (1, 0, 40)]
)
def test_tangos_interval_solves_the_closed_form(wins: int, losses: int, rows: int) -> None:
    """The bounds are roots of the quartic of Yang, Sun & Hardin, 2013, Statistics in Medicine 32."""
    g, d, both = NormalDist().inv_cdf(0.975) ** 2, wins - losses, wins + losses
    quartic = [
        rows**2 * (rows / g + 1) ** 2,
        -rows * d * (rows / g + 1) * (4 * rows / g + 1),
        2 * rows * d**2 * (3 * rows / g + 2) / g - rows**2 * (both / g + 1),
        rows * d * (2 * both / g + 1) - d**3 * (4 * rows / g + 1) / g,
        d**2 * (d**2 / g - both) / g,
    ]
    for bound in score_interval(wins, losses, rows, 0.975):
        size = sum(abs(c) * abs(bound) ** (4 - k) for k, c in enumerate(quartic))
        assert abs(np.polyval(quartic, bound)) <= 1e-9 * size


@given(COUNTS, COUNTS, st.integers(1, 200), st.floats(-1, 1), st.sampled_from([0.9, 0.95, 0.99]))
def test_interval_and_p_value_agree(wins: int, losses: int, same: int, difference: float, confidence: float) -> None:
    rows = wins + losses + same
    low, high = score_interval(wins, losses, rows, confidence)
    assert -1 <= low <= (wins - losses) / rows + 1e-9 and (wins - losses) / rows - 1e-9 <= high <= 1
    assert score_interval(losses, wins, rows, confidence) == pytest.approx((-high, -low), abs=1e-9)
    if abs(difference - low) > 1e-6:
        assert (score_p(wins, losses, rows, difference) <= 1 - confidence) == (difference < low)


def test_the_interval_covers_the_true_difference_as_often_as_it_says() -> None:
    """100 rows of which a quarter differ: the lower bound is above the truth in about one of twenty test sets."""
    rng, missed = np.random.default_rng(4), 0
    for _ in range(2000):
        wins, losses, _ = rng.multinomial(100, [0.10, 0.15, 0.75])
        missed += score_interval(int(wins), int(losses), 100, 0.95)[0] > -0.05
    assert 0.03 < missed / 2000 < 0.07


@pytest.mark.parametrize(
    ("differing", "rows", "confidence", "difference", "source"),
    [
        (0.45, 155, 0.975, 0.15, "Connor's formula for p10 = 0.30, p01 = 0.15, two-sided 5 %, 80 % power"),
        (0.50, 23, 0.975, 0.40, "the same for 0.45 and 0.05"),
    ],
)
def test_the_detectable_difference_inverts_connors_sample_size(
    differing: float, rows: int, confidence: float, difference: float, source: str
) -> None:
    z, power = NormalDist().inv_cdf(confidence), NormalDist().inv_cdf(0.8)
    needed = ((z * math.sqrt(differing) + power * math.sqrt(differing - difference**2)) / difference) ** 2
    assert math.ceil(needed) == rows, source
    assert detectable(round(differing * rows), rows, confidence) == pytest.approx(difference, rel=0.02 if rows > 50 else 0.04)


@pytest.mark.parametrize(("rows", "differing"), [(100, 20), (400, 40), (1000, 300)])
def test_the_detectable_difference_is_found_in_four_of_five_test_sets(rows: int, differing: int) -> None:
    delta = detectable(differing, rows, 0.95)
    assert delta is not None
    share, rng = differing / rows, np.random.default_rng(5)
    drawn = rng.multinomial(rows, [(share + delta) / 2, (share - delta) / 2, 1 - share], size=4000)
    power_reached = np.mean([score_p(int(wins), int(losses), rows, 1e-9) <= 0.05 for wins, losses, _ in drawn])
    assert power_reached == pytest.approx(0.8, abs=0.03)


def test_rows_that_hardly_differ_can_show_what_would_make_them_differ() -> None:
    assert detectable(3, 4, 0.95) is None  # four rows, all in one direction, have the p value 0.0625
    differences = [detectable(0, rows, 0.95) for rows in (20, 100, 1000, 10_000)]
    assert all(f is not None for f in differences) and differences == sorted(differences, reverse=True)  # type: ignore[type-var]
    assert differences[1] == pytest.approx(0.06, abs=0.003)  # n Δ = (1.645 + 0.842 √(1 − Δ))²


def test_holms_correction_on_a_worked_example() -> None:
    # Four hypotheses at 5 %: the smallest two are rejected (0.005 < 0.0125, 0.01 < 0.0167, but 0.03 > 0.025).
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([]) == () and holm([0.7]) == (0.7,) and holm([0.6, 0.6]) == (1.0, 1.0)


@given(st.lists(st.floats(0, 1), max_size=8), st.floats(0.001, 0.5))
def test_holms_correction_is_the_step_down_procedure(p_values: list[float], level: float) -> None:
    rejected: set[int] = set()
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if (len(p_values) - rank) * p_values[index] > level:
            break
        rejected.add(index)
    assert {i for i, p in enumerate(holm(p_values)) if p <= level} == rejected
