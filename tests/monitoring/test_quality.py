"""The accuracy test against published intervals, and how often it is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_ind

from softprompt_core.evaluation import Predictions
from softprompt_core.monitoring import quality_check
from softprompt_core.monitoring.quality import newcombe, welch


def answers(hits: int, rows: int) -> Predictions:
    return predictions_of(("a",) * hits + ("b",) * (rows - hits), gold="a", labels=("a", "b"))


def predictions_of(predicted: tuple[str, ...], *, gold: str, labels: tuple[str, ...]) -> Predictions:
    rows = len(predicted)
    ids, loss = tuple(map(str, range(rows))), (0.0,) * rows
    return Predictions(scorer="champion", ids=ids, gold=(gold,) * rows, predicted=predicted, loss=loss, slices={}, labels=labels)


@pytest.mark.parametrize(
    "counts, interval",
    [
        ((56, 70, 48, 80), (0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((6, 7, 2, 7), (0.0582, 0.8062)),
        ((5, 56, 0, 29), (-0.0381, 0.1926)),
        ((0, 10, 0, 20), (-0.1611, 0.2775)),
        ((10, 10, 0, 20), (0.6791, 1.0)),
        ((10, 10, 0, 10), (0.6075, 1.0)),
    ],
)
def test_intervals_are_those_of_newcombes_table(counts: tuple[int, int, int, int], interval: tuple[float, float]) -> None:
    """Newcombe (1998), table II, method 10, two-sided 95 %."""
    assert newcombe(*counts, confidence=0.975) == pytest.approx(interval, abs=6e-5)


def test_welch_is_scipys() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.random(20), generator.random(30)
    low, high = welch(a, b, 0.95)
    assert ttest_ind(a - low, b, equal_var=False, alternative="greater").pvalue == pytest.approx(0.05)
    assert ttest_ind(a - high, b, equal_var=False, alternative="less").pvalue == pytest.approx(0.05)
    assert welch(np.ones(5), np.zeros(5), 0.95) == (1.0, 1.0)


def test_a_clear_drop_is_worse_and_a_small_or_doubtful_one_is_not() -> None:
    def status(fresh: tuple[int, int], margin: float = 0.02) -> str:
        return quality_check(answers(*fresh), answers(180, 200), margin=margin, confidence=0.95).status

    assert status((140, 200)) == "worse"
    assert status((176, 200)) == "ok"
    assert status((7, 10), margin=0.05) == "ok"  # as large a drop over few rows proves nothing
    assert status((140, 200), margin=0.3) == "ok"  # allowed
    assert status((200, 200)) == "ok"


def test_the_reason_tells_numbers_and_what_would_have_been_seen() -> None:
    check = quality_check(answers(176, 200), answers(180, 200), margin=0.02, confidence=0.95)
    assert check.reason.startswith("accuracy 0.88 on 200 fresh rows is 0.02 lower than the 0.9 on 200 test rows at promotion")
    assert 0.05 < check.numbers["detectable"] < 0.15 and "would probably have been seen" in check.reason


def test_more_rows_show_smaller_drops_and_few_right_ones_are_no_certainty() -> None:
    few, many = (
        quality_check(answers(n, n), answers(180, 200), margin=0, confidence=0.95).numbers["detectable"] for n in (20, 2000)
    )
    assert many < few and few > 0.1


def test_a_champion_as_good_as_before_is_called_worse_no_oftener_than_promised() -> None:
    generator = np.random.default_rng(1)
    draws = [(int(generator.binomial(150, 0.85)), int(generator.binomial(200, 0.85))) for _ in range(400)]
    wrong = sum(quality_check(answers(f, 150), answers(p, 200), margin=0, confidence=0.95).status == "worse" for f, p in draws)
    assert wrong <= 32  # 20 expected; 32 is three standard deviations above


def test_a_detectable_drop_is_seen_in_about_four_of_five_times() -> None:
    generator = np.random.default_rng(2)
    drop = quality_check(answers(170, 200), answers(170, 200), margin=0, confidence=0.95).numbers["detectable"]
    draws = [(int(generator.binomial(200, 0.85 - drop)), int(generator.binomial(200, 0.85))) for _ in range(300)]
    seen = sum(quality_check(answers(f, 200), answers(p, 200), margin=0, confidence=0.95).status == "worse" for f, p in draws)
    assert 0.65 <= seen / 300 <= 0.9


def test_generated_text_is_compared_by_rouge() -> None:
    def texts(text: str) -> Predictions:
        return predictions_of((text,) * 30, gold="the cat sat", labels=())

    assert quality_check(texts("a dog"), texts("the cat sat"), margin=0.02, confidence=0.95).status == "worse"
    assert quality_check(texts("the cat sat"), texts("the cat sat"), margin=0.02, confidence=0.95).status == "ok"
