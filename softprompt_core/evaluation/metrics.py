"""Metrics of ``Predictions``: one function of row numbers a metric, so that a subset and a resample cost no second scoring.

All metrics lie in 0..1 except ``loss`` (nats per target token) and ``bleu`` (0..100, as sacrebleu reports it). A metric that is
unknown, undefined (precision of a label that nobody predicted) or over no rows is NaN, never 0 and never an exception.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from softprompt_core.evaluation.predictions import Predictions
from softprompt_core.spec.gates import metrics_of

if TYPE_CHECKING:
    import pandas as pd

Metric = Callable[[np.ndarray], float]
"""Row numbers ``[n]``, n > 0, repeats allowed → value."""

LOWER_IS_BETTER = frozenset({"loss", "ece"})

_ECE_BINS = 10


def metric_names(predictions: Predictions) -> tuple[str, ...]:
    """Every metric that these predictions can have, as gates write it: ``accuracy``, ``f1/<label>``, …"""
    return metrics_of(predictions.labels)


def summary_metrics(labels: Sequence[str]) -> tuple[str, ...]:
    """The metrics that descriptions and reports show, the headline first; no ``labels`` means generation."""
    return ("accuracy", "macro_f1", "loss", "ece") if labels else ("rougeL", "bleu", "exact_match", "loss")


def headline_metric(labels: Sequence[str]) -> str:
    """The metric that tables lead with: ``accuracy`` for classification, ``rougeL`` for generation."""
    return summary_metrics(labels)[0]


class PredictionMetrics:
    """The metrics of one scorer. What a metric costs for each row is computed once, for all slices and resamples."""

    def __init__(self, predictions: Predictions) -> None:
        self.predictions = predictions
        self._functions: dict[str, Metric | None] = {}

    def function(self, metric: str) -> Metric | None:
        """The metric as a function of row numbers; None for an unknown metric."""
        if metric not in self._functions:
            self._functions[metric] = _metric_function(self.predictions, metric)
        return self._functions[metric]

    def value(self, metric: str, slice: str | None = None) -> float:
        """The metric on a slice, or on all rows; NaN where it is unknown, undefined or over no rows."""
        function, rows = self.function(metric), slice_rows(self.predictions, slice)
        return function(rows) if function is not None and len(rows) else math.nan

    def defined(self, slice: str | None = None) -> dict[str, float]:
        """Every metric that is defined on a slice, or on all rows, by the name that gates use."""
        values = {metric: self.value(metric, slice) for metric in metric_names(self.predictions)}
        return {metric: value for metric, value in values.items() if math.isfinite(value)}


def metric_value(predictions: Predictions, metric: str, *, slice: str | None = None) -> float:
    """One metric of ``metric_names``; NaN where it is unknown, undefined or over no rows."""
    return PredictionMetrics(predictions).value(metric, slice)


def all_metrics(predictions: Predictions) -> dict[str, float]:
    """Every metric that is defined on all rows, by the name that gates use."""
    return PredictionMetrics(predictions).defined()


def headline_by_row(predictions: Predictions) -> np.ndarray:
    """The headline metric of each row alone, ``[rows]``: right or wrong for classification, ROUGE-L for generation."""
    return _correct(predictions) if predictions.labels else _rouge(predictions, "rougeL")


def counted_rows(predictions: Predictions, metric: str, *, slice: str | None = None) -> np.ndarray:
    """The rows ``[n]`` that a metric is taken over: for a label's recall and F1 its gold rows, for precision its answers."""
    rows = slice_rows(predictions, slice)
    kind, slash, label = metric.partition("/")
    if not slash:
        return rows
    words = predictions.predicted if kind == "precision" else predictions.gold
    return rows[np.array([words[row] == label for row in rows], dtype=bool)]


def slice_rows(predictions: Predictions, slice: str | None) -> np.ndarray:
    """Row numbers of a slice, ``[n]``; all rows for None, no rows for an unknown slice."""
    if slice is None:
        return np.arange(len(predictions))
    return np.flatnonzero(np.asarray(predictions.slices.get(slice, ()), dtype=bool))


def confusion(predictions: Predictions) -> pd.DataFrame:
    """Counts ``[gold label, predicted label]``; answers that are no label get a row or column at the end."""
    import pandas as pd

    codes, words = _codes(predictions)
    counts = np.zeros((len(words), len(words)), dtype=int)
    np.add.at(counts, (codes[0], codes[1]), 1)
    return pd.DataFrame(counts, index=pd.Index(words, name="gold"), columns=pd.Index(words, name="predicted"))


def majority(predictions: Predictions, train_labels: Sequence[str]) -> Predictions:
    """What one gets for always giving the same answer, on the rows of ``predictions``: the most frequent training label, or
    another one that more of these rows have.

    A candidate that does not beat the best constant answer has learned nothing, whatever the classes' shares in training were.
    Of equally frequent training labels the first in ``predictions.labels`` is taken.

    Raises:
        ValueError: there are no training labels.
    """
    counts, right = Counter(train_labels), Counter(predictions.gold)
    if not counts:
        raise ValueError("no training labels: the majority class is undefined")
    order = {label: index for index, label in enumerate(predictions.labels)}

    def best(label: str) -> tuple[int, int, int, str]:
        return -right[label], -counts[label], order.get(label, len(order)), label

    word = min({*counts, *right}, key=best)
    rows = len(predictions)
    answers = {"scorer": "majority", "predicted": (word,) * rows, "loss": (math.nan,) * rows, "scores": ()}
    return predictions.model_copy(update=answers)


def _metric_function(predictions: Predictions, metric: str) -> Metric | None:
    if metric not in metric_names(predictions):
        return None
    if metric == "loss":
        return _mean(np.asarray(predictions.loss, dtype=float))
    if metric in ("accuracy", "exact_match"):
        return _mean(_correct(predictions))
    if metric in ("rouge1", "rougeL"):
        return _mean(_rouge(predictions, metric))
    if metric == "bleu":
        return _bleu(predictions)
    if metric == "ece":
        return _calibration_error(predictions)
    if metric == "macro_f1":
        return _macro_f1(predictions)
    kind, _, label = metric.partition("/")
    return _of_label(predictions, kind, label)


def _mean(values: np.ndarray) -> Metric:
    return lambda rows: float(values[rows].mean())


def _correct(predictions: Predictions) -> np.ndarray:
    return np.asarray(predictions.correct(), dtype=float)


def _codes(predictions: Predictions) -> tuple[np.ndarray, list[str]]:
    """Gold and predicted words as numbers ``[2, rows]``, and the words: the labels first, then anything else that occurs."""
    words = list(dict.fromkeys((*predictions.labels, *predictions.gold, *predictions.predicted)))
    codes = {word: code for code, word in enumerate(words)}
    both = (predictions.gold, predictions.predicted)
    return np.array([[codes[word] for word in side] for side in both], dtype=np.intp), words


def _macro_f1(predictions: Predictions) -> Metric:
    """Mean F1 over the words that occur as gold or predicted in the rows (what scikit-learn does)."""
    (gold, predicted), words = _codes(predictions)

    def value(rows: np.ndarray) -> float:
        g, p = gold[rows], predicted[rows]
        hits = np.bincount(g[g == p], minlength=len(words))
        total = np.bincount(g, minlength=len(words)) + np.bincount(p, minlength=len(words))
        present = total > 0
        return float((2 * hits[present] / total[present]).mean())

    return value


def _of_label(predictions: Predictions, kind: str, label: str) -> Metric:
    gold = np.array([word == label for word in predictions.gold], dtype=bool)
    predicted = np.array([word == label for word in predictions.predicted], dtype=bool)
    divisors = {"precision": predicted.astype(float), "recall": gold.astype(float), "f1": (gold + predicted.astype(float)) / 2}
    divisor = divisors[kind]
    hit = (gold & predicted).astype(float)

    def value(rows: np.ndarray) -> float:
        below = divisor[rows].sum()
        return float(hit[rows].sum() / below) if below else math.nan

    return value


def _calibration_error(predictions: Predictions) -> Metric | None:
    """Expected calibration error over ten equal bins (a, b] of the top label's probability (Guo et al., 2017)."""
    if not predictions.scores:
        return None
    scores = np.asarray(predictions.scores, dtype=float)
    with np.errstate(invalid="ignore"):  # a row of -inf only becomes NaN, and so does the metric
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    confidence = weights.max(axis=1) / weights.sum(axis=1)
    gap = _correct(predictions) - confidence
    edges = np.linspace(0, 1, _ECE_BINS + 1)
    bins = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, _ECE_BINS - 1)
    return lambda rows: float(np.abs(np.bincount(bins[rows], weights=gap[rows])).sum() / len(rows))


class _Words:
    """Lower-case words in any script. For ASCII the same as rouge_score's own, which drops every other letter."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[^\W_]+", text.lower())


def _rouge(predictions: Predictions, metric: str) -> np.ndarray:
    """F-measure of ROUGE-1 or ROUGE-L of each row, without stemming (Lin, 2004)."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer([metric], tokenizer=_Words())
    pairs = zip(predictions.gold, predictions.predicted, strict=True)
    return np.array([scorer.score(gold, predicted)[metric].fmeasure for gold, predicted in pairs], dtype=float)


def _bleu(predictions: Predictions) -> Metric:
    """Corpus BLEU with sacrebleu's default settings (Papineni et al., 2002; Post, 2018), from counts a row."""
    from sacrebleu.metrics.bleu import BLEU

    scorer = BLEU(effective_order=True)  # silences a warning about single sentences; the counts are the same
    pairs = zip(predictions.gold, predictions.predicted, strict=True)
    sentences = [scorer.sentence_score(predicted, [gold]) for gold, predicted in pairs]
    counts = np.array([[*s.counts, *s.totals, s.sys_len, s.ref_len] for s in sentences], dtype=int)

    def value(rows: np.ndarray) -> float:
        total = counts[rows].sum(axis=0).tolist()
        return float(BLEU.compute_bleu(total[:4], total[4:8], total[8], total[9], smooth_method="exp").score)

    return value
