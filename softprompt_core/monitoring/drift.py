"""Do new rows still look like those of the training? Four two-sample tests, corrected together by Holm's method.

A large sample makes the slightest difference significant, so drift counts only if it is large enough to matter as well. The
tests are scipy's and scikit-learn's: libraries for drift offer the same ones, with far more to install.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from softprompt_core.evaluation import Predictions
from softprompt_core.evaluation.holm import holm
from softprompt_core.monitoring.health import HealthCheck
from softprompt_core.monitoring.profile import InputProfile

# Effects that count as small in the usual tables (Cohen, 1988), below which a difference is left alone.
_LEAST_DISTANCE = 0.15  # of two distribution functions
_LEAST_CRAMERS_V = 0.1
_LEAST_ACCURACY = 0.58  # of telling fresh inputs from training inputs; 0.5 is guessing
_FOLDS = 5


@dataclass(frozen=True)
class _Test:
    what: str
    p: float
    effect: float
    least: float
    words: str


def drift_checks(
    trained: InputProfile | None,
    new: InputProfile,
    *,
    labels: tuple[Mapping[str, int], Mapping[str, int]] | None,
    answers: tuple[Predictions, Predictions] | None,
    confidence: float,
) -> tuple[HealthCheck, ...]:
    """All tests for which there is something to compare.

    Args:
        trained: profile of the training inputs; None where it was not kept.
        labels: label → rows, in training and in the new rows.
        answers: the champion's answers to the test rows and to the new rows, for classification.
        confidence: drift is named where the corrected p value is below ``1 - confidence``.
    """
    tests = []
    if trained is not None and trained.words and new.words:
        tests.append(_lengths(trained.words, new.words))
    if trained is not None and trained.base == new.base and min(len(trained.vectors), len(new.vectors)) >= 2 * _FOLDS:
        tests.append(_meanings(trained, new))
    if labels is not None and (mix := _labels(*labels)) is not None:
        tests.append(mix)
    if answers is not None and answers[0].scores and answers[1].scores:
        tests.append(_answers(*answers))
    corrected = holm([test.p for test in tests])
    return tuple(_checked(test, p, 1 - confidence) for test, p in zip(tests, corrected, strict=True))


def _checked(test: _Test, p: float, level: float) -> HealthCheck:
    drifted = p < level and test.effect >= test.least
    reason = f"{test.what} {'has shifted' if drifted else 'is as in training'}: {test.words} (corrected p = {p:.2g})"
    numbers = {"p_value": p, "effect": test.effect}
    return HealthCheck(what=test.what, status="shifted" if drifted else "ok", reason=reason, numbers=numbers)


def _lengths(trained: Sequence[int], new: Sequence[int]) -> _Test:
    """Kolmogorov–Smirnov on words an input."""
    from scipy.stats import ks_2samp

    test = ks_2samp(trained, new)
    words = f"median {np.median(new):g} words, {np.median(trained):g} in training"
    return _Test("input length", float(test.pvalue), float(test.statistic), _LEAST_DISTANCE, words)


def _meanings(trained: InputProfile, new: InputProfile) -> _Test:
    """Classifier two-sample test (Lopez-Paz & Oquab, 2017): can inputs be told from training inputs by their embeddings?"""
    from scipy.stats import binomtest
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    count = min(len(trained.vectors), len(new.vectors))
    generator = np.random.default_rng(0)
    sides = [np.asarray(profile.vectors)[generator.permutation(len(profile.vectors))[:count]] for profile in (trained, new)]
    rows, side = np.concatenate(sides), np.repeat([0, 1], count)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    predicted = cross_val_predict(make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500)), rows, side, cv=folds)
    right = int((predicted == side).sum())
    accuracy = right / len(side)
    p = float(binomtest(right, len(side), 0.5, alternative="greater").pvalue)
    words = f"a classifier tells fresh from training inputs with accuracy {accuracy:.2f}, 0.5 is guessing"
    return _Test("input content", p, accuracy, _LEAST_ACCURACY, words)


def _labels(trained: Mapping[str, int], new: Mapping[str, int]) -> _Test | None:
    """Chi-squared on the frequencies of the right answers."""
    from scipy.stats import chi2_contingency

    names = [name for name in trained if trained[name] + new.get(name, 0)]
    table = np.array([[trained[name] for name in names], [new.get(name, 0) for name in names]])
    if len(names) < 2 or not table.sum(axis=1).all():
        return None
    test = chi2_contingency(table, correction=False)
    shares = table / table.sum(axis=1, keepdims=True)
    most = int(np.abs(shares[1] - shares[0]).argmax())
    words = f"{names[most]} is {shares[1][most]:.1%} of the answers, {shares[0][most]:.1%} in training"
    return _Test("mix of labels", float(test.pvalue), float(np.sqrt(test.statistic / table.sum())), _LEAST_CRAMERS_V, words)


def _answers(promoted: Predictions, new: Predictions) -> _Test:
    """Kolmogorov–Smirnov on the champion's probability of each label, Bonferroni over labels.

    Rabanser et al. (2019), "Failing Loudly": what the model makes of the inputs shows drift best. It needs no right answers.
    """
    from scipy.stats import ks_2samp

    before, after = np.exp(np.asarray(promoted.scores)), np.exp(np.asarray(new.scores))
    count = 1 if len(new.labels) == 2 else len(new.labels)  # of two labels one determines the other
    tests = [ks_2samp(before[:, label], after[:, label]) for label in range(count)]
    best = min(range(count), key=lambda i: tests[i].pvalue)
    name = new.labels[best]
    words = f"the mean probability of {name} is {after[:, best].mean():.2f}, {before[:, best].mean():.2f} on the test rows"
    p = min(1.0, float(tests[best].pvalue) * count)
    return _Test("mix of answers", p, float(tests[best].statistic), _LEAST_DISTANCE, words)
