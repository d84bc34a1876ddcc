"""Metrics against values worked out by hand, and against the libraries that define them."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt_core.evaluation import (
    PredictionMetrics,
    Predictions,
    all_metrics,
    confusion,
    counted_rows,
    majority,
    metric_names,
    metric_value,
)

LABELS = ("neg", "pos")


def classified(gold: str, predicted: str, *, labels: tuple[str, ...] = ("a", "b", "c"), **fields: object) -> Predictions:
    """Predictions from one letter a row."""
    rows = len(gold)
    answers = {"ids": tuple(f"test/{i}" for i in range(rows)), "gold": tuple(gold), "predicted": tuple(predicted)}
    others = {"scorer": "candidate", "loss": (0.5,) * rows, "slices": {}, "labels": labels}
    return Predictions.model_validate(answers | others | fields)


def generated(gold: list[str], predicted: list[str]) -> Predictions:
    rows = len(gold)
    answers = {"ids": tuple(map(str, range(rows))), "gold": tuple(gold), "predicted": tuple(predicted)}
    return Predictions(scorer="candidate", loss=(1.0,) * rows, slices={}, labels=(), **answers)


def test_classification_metrics_by_hand() -> None:
    p = classified("aabbc", "abbbb", loss=(0.1, 0.2, 0.3, 0.4, 1.0))
    assert metric_value(p, "accuracy") == pytest.approx(3 / 5)
    assert metric_value(p, "precision/b") == pytest.approx(2 / 4)
    assert metric_value(p, "recall/b") == 1.0
    assert metric_value(p, "f1/b") == pytest.approx(2 * 2 / (2 + 4))
    assert metric_value(p, "recall/a") == pytest.approx(1 / 2)
    assert metric_value(p, "f1/c") == 0.0
    assert metric_value(p, "macro_f1") == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert metric_value(p, "loss") == pytest.approx(0.4)


def test_calibration_error_by_hand() -> None:
    # Confidences 0.9, 0.8 (bin (0.7, 0.8]), 0.6, 0.6; right, wrong, right, wrong.
    shares = ((0.9, 0.1), (0.2, 0.8), (0.6, 0.4), (0.6, 0.4))
    scores = tuple(tuple(math.log(s) - 3.0 for s in row) for row in shares)  # log-probabilities need not sum to one
    p = classified("aaab", "abaa", labels=("a", "b"), scores=scores)
    assert metric_value(p, "ece") == pytest.approx((abs(1 - 0.9) + abs(0 - 0.8) + abs(1 - 1.2)) / 4)


def test_calibration_needs_scores_and_survives_impossible_labels() -> None:
    assert math.isnan(metric_value(classified("ab", "ab"), "ece"))
    certain = ((0.0, -math.inf), (-math.inf, 0.0))
    assert metric_value(classified("ab", "ab", labels=("a", "b"), scores=certain), "ece") == 0.0
    assert math.isnan(metric_value(classified("ab", "ab", labels=("a", "b"), scores=((-math.inf,) * 2,) * 2), "ece"))


@settings(deadline=None)  # the first call imports a library
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), min_size=1, max_size=30))
def test_label_metrics_are_those_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    from sklearn.metrics import f1_score, precision_score, recall_score

    gold, predicted = "".join(g for g, _ in pairs), "".join(p for _, p in pairs)
    p = classified(gold, predicted, labels=("a", "b", "c", "d"))
    assert metric_value(p, "macro_f1") == pytest.approx(f1_score(list(gold), list(predicted), average="macro"))
    for name, function in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = function(list(gold), list(predicted), labels=list("abcd"), average=None, zero_division=math.nan)
        for label, value in zip("abcd", theirs, strict=True):
            assert metric_value(p, f"{name}/{label}") == pytest.approx(value, nan_ok=True)


def test_exact_match_ignores_space_at_the_ends_only() -> None:
    p = generated(["the cat", "a dog", "x"], [" the cat\n", "a  dog", "X"])
    assert metric_value(p, "exact_match") == pytest.approx(1 / 3)


def test_rouge_by_hand() -> None:
    p = generated(["the cat sat"], ["the dog sat down"])  # two common words of 3 and 4, in order
    assert metric_value(p, "rouge1") == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))
    assert metric_value(p, "rougeL") == pytest.approx(4 / 7)
    swapped = generated(["a b"], ["b a"])
    assert (metric_value(swapped, "rouge1"), metric_value(swapped, "rougeL")) == (1.0, 0.5)


def test_rouge_counts_words_of_any_script() -> None:
    assert metric_value(generated(["кошка спит"], ["кошка спит"]), "rouge1") == 1.0


ENGLISH = st.lists(st.sampled_from(["the", "cat", "sat", "on", "Mat.", "U.S.", "it's", "a-b", "5%"]), max_size=8).map(" ".join)


@settings(deadline=None)  # the first call imports a library
@given(st.lists(st.tuples(ENGLISH, ENGLISH), min_size=1, max_size=6))
def test_text_metrics_are_those_of_their_libraries(pairs: list[tuple[str, str]]) -> None:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu import corpus_bleu

    gold, predicted = [g for g, _ in pairs], [p for _, p in pairs]
    p = generated(gold, predicted)
    assert metric_value(p, "bleu") == pytest.approx(corpus_bleu(predicted, [gold]).score)
    scorer = RougeScorer(["rouge1", "rougeL"])
    for name in ("rouge1", "rougeL"):
        assert metric_value(p, name) == pytest.approx(np.mean([scorer.score(g, q)[name].fmeasure for g, q in pairs]))


def test_unknown_undefined_and_empty_are_nan() -> None:
    p = classified("aab", "aaa", slices={"none": (False,) * 3, "last": (False, False, True)})
    for metric in ("acuracy", "exact_match", "f1/zzz", "f1/", "", "precision/b", "recall/c", "f1/c"):
        assert math.isnan(metric_value(p, metric)), metric
    assert math.isnan(metric_value(p, "accuracy", slice="none"))
    assert math.isnan(metric_value(p, "accuracy", slice="no such slice"))
    assert math.isnan(metric_value(classified("", ""), "macro_f1"))
    assert math.isnan(metric_value(generated(["x"], ["x"]), "accuracy"))
    assert math.isnan(metric_value(classified("ab", "ab", loss=(1.0, math.nan)), "loss"))


def test_rows_and_slices_choose_and_repeat_rows() -> None:
    p = classified("aabb", "abbb", slices={"first": (True, True, False, False)})
    assert metric_value(p, "accuracy", slice="first") == 0.5
    accuracy = PredictionMetrics(p).function("accuracy")
    assert accuracy is not None and accuracy(np.array([1, 1, 0])) == pytest.approx(1 / 3)
    assert PredictionMetrics(p).defined("first")["accuracy"] == 0.5


def test_rows_of_a_label_metric_are_the_rows_with_that_label() -> None:
    p = classified("aaab", "aabb", slices={"tail": (False, True, True, True)})
    assert [len(counted_rows(p, m)) for m in ("accuracy", "recall/a", "f1/b", "precision/b")] == [4, 3, 1, 2]
    assert counted_rows(p, "recall/a", slice="tail").tolist() == [1, 2]
    assert len(counted_rows(p, "accuracy", slice="no such slice")) == 0


def test_all_metrics_are_the_defined_ones_of_metric_names() -> None:
    p = classified("aab", "aaa")
    values = all_metrics(p)
    assert set(metric_names(p)) - set(values) == {"ece", "precision/b", "precision/c", "recall/c", "f1/c"}
    assert all(values[m] == metric_value(p, m) for m in values)
    assert set(all_metrics(generated(["x y"], ["x z"]))) == {"exact_match", "rougeL", "rouge1", "bleu", "loss"}


def test_confusion_counts_gold_by_predicted_and_keeps_odd_answers() -> None:
    table = confusion(classified("aabc", "abb?"))
    assert list(table.index) == list(table.columns) == ["a", "b", "c", "?"]
    assert table.loc["a", "b"] == table.loc["c", "?"] == table.loc["a", "a"] == 1
    assert table.to_numpy().sum() == 4


def test_majority_is_the_most_frequent_training_label_or_a_better_constant_answer() -> None:
    like = classified("aabb", "abbb", slices={"s": (True, False, True, True)}, scores=((0.0, -1.0, -2.0),) * 4)
    always = majority(like, ["b", "c", "b", "a"])
    assert always.predicted == ("b",) * 4
    assert (always.scorer, always.ids, always.gold, always.slices) == ("majority", like.ids, like.gold, like.slices)
    assert metric_value(always, "accuracy") == pytest.approx(1 / 2)
    assert math.isnan(metric_value(always, "loss")) and math.isnan(metric_value(always, "ece"))
    assert majority(like, ["c", "b", "a"]).predicted[0] == "a", "ties go to the first label"
    assert majority(classified("aab", "abb"), ["b", "b", "c", "a"]).predicted[0] == "a", "more test rows than the training's"
    with pytest.raises(ValueError, match="no training labels"):
        majority(like, [])


@given(st.text("abc", min_size=1, max_size=12), st.text("abc", min_size=1, max_size=12))
def test_no_constant_answer_is_better_than_majority(gold: str, trained: str) -> None:
    always = majority(classified(gold, gold), list(trained))
    for metric in ("accuracy", "macro_f1"):
        constants = [metric_value(classified(gold, label * len(gold)), metric) for label in set(gold) | set(trained)]
        assert metric_value(always, metric) >= max(constants) - 1e-12
