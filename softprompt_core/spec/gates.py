"""``GateSpec``: one condition for promotion, as a user writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from softprompt_core.errors import closest
from softprompt_core.spec.frozen import Frozen

FACTS = ("size_bytes", "prompt_norm", "seed_spread", "diverged_seeds", "best_step")
"""Gateable numbers about the candidate itself, not about its answers."""

EVERY_SLICE = "*"

_CLASSIFICATION = ("accuracy", "macro_f1", "loss", "ece")
_PER_LABEL = ("precision", "recall", "f1")
_GENERATION = ("exact_match", "rougeL", "rouge1", "bleu", "loss")


def metrics_of(labels: Sequence[str]) -> tuple[str, ...]:
    """Every metric that answers can have, as gates write it: ``accuracy``, ``f1/<label>``, …; no ``labels`` means generation."""
    if not labels:
        return _GENERATION
    return (*_CLASSIFICATION, *(f"{kind}/{label}" for label in labels for kind in _PER_LABEL))


class GateSpec(Frozen):
    """One condition for promotion. All gates must pass; no gates means no promotion."""

    metric: str
    """Of the answers: `accuracy`, `macro_f1`, `f1/<label>`, `exact_match`, `rougeL`, `bleu`, `loss`, `ece`, …
    Of the prompt itself:
    `size_bytes`, `prompt_norm`, `seed_spread`, `diverged_seeds`, `best_step`."""
    at_least: float | None = Field(None, allow_inf_nan=False)
    """The candidate's value must reach this. With `at_most` too: a range."""
    at_most: float | None = Field(None, allow_inf_nan=False)
    """The candidate's value must not exceed this (for `loss`)."""
    versus: Literal["champion", "hard_prompt", "majority"] | None = None
    """Compare with: the champion re-scored on the same rows, the best hard prompt, or the best answer that is always the same
    (`majority`)."""
    margin: float | None = Field(None, ge=0, allow_inf_nan=False)
    """With `versus`: how much worse the candidate may be (default 0)."""
    by: float | None = Field(None, ge=0, allow_inf_nan=False)
    """With `versus`: how much better the candidate must be; 0 means better at all. `at_least_by` is an older name."""
    slice: str | None = None
    """Look at this slice of the test rows only. `"*"`: every slice must pass; one with fewer rows than `min_examples` is
    named and not checked."""
    confidence: float | None = Field(None, gt=0.5, lt=1)
    """With `versus`: how sure the comparison must be, for all slices together with `slice: "*"`. Without it, the values
    on the test rows are compared as they are."""
    test: Literal["auto", "mcnemar", "bootstrap"] = "auto"
    """How `confidence` is reached. `mcnemar`: for metrics that are right or wrong a row (accuracy, exact_match, recall);
    `bootstrap`: for any metric. `auto`: the first where it applies."""
    in_doubt: Literal["fail", "pass"] = "fail"
    """With `margin` and `confidence`: `fail`: that the candidate is good enough must be shown. `pass`: the gate fails only
    when it is shown to be too much worse, which suits many small slices."""
    min_examples: int = Field(20, ge=1)
    """A metric over fewer test rows than this fails the gate."""

    @model_validator(mode="before")
    @classmethod
    def _older_name(cls, value: Any) -> Any:
        if isinstance(value, dict) and "at_least_by" in value:
            if "by" in value:
                raise ValueError("`by` and `at_least_by` are two names of one key; write `by`")
            return {("by" if key == "at_least_by" else key): setting for key, setting in value.items()}
        return value

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        absolute = self.at_least is not None or self.at_most is not None
        if self.versus is None:
            self._check_absolute(absolute)
        else:
            if absolute:
                raise ValueError("`at_least` and `at_most` do not go with `versus`; write two gates")
            if self.margin is not None and self.by is not None:
                raise ValueError("`margin` (not much worse) and `by` (better) exclude each other")
            if self.test != "auto" and self.confidence is None:
                raise ValueError("`test` goes with `confidence`")
            if self.in_doubt == "pass" and (self.confidence is None or self.by is not None):
                raise ValueError("`in_doubt: pass` goes with `confidence` and `margin`; what must be better must be shown")
            if self.test == "mcnemar" and not right_or_wrong(self.metric):
                raise ValueError(f"`test: mcnemar` needs answers that are right or wrong, not {self.metric!r}; use `bootstrap`")
        if self.metric in FACTS and (self.versus is not None or self.slice is not None):
            raise ValueError(f"{self.metric!r} is about the prompt itself: it goes with `at_least` and `at_most`, not with rows")
        return self

    def _check_absolute(self, has_bound: bool) -> None:
        if not has_bound:
            raise ValueError("a gate needs one of `at_least`, `at_most` and `versus`")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError("`at_least` is above `at_most`, so nothing can pass")
        relative = (self.margin, self.by, self.confidence)
        if any(value is not None for value in relative) or self.test != "auto" or self.in_doubt != "fail":
            raise ValueError("`margin`, `by`, `confidence`, `test` and `in_doubt` go with `versus`")


def metric_problem(metric: str, classification: bool, labels: Sequence[str] | None) -> str | None:
    """Why a gate's metric is none of this task, with the nearest name; None where it is one.

    Args:
        labels: the label words; None while they are not known yet, and then any word is taken for one.
    """
    kind, slash, label = metric.partition("/")
    if metric in FACTS or (classification and labels is None and slash and kind in _PER_LABEL):
        return None
    names = metrics_of((labels or ("<label>",)) if classification else ())
    if metric in names:
        return None
    # While labels are not known, the word behind the slash is taken as it is.
    candidates = (*(metrics_of((label,)) if classification and slash and labels is None else names), *FACTS)
    close = closest(metric, candidates, likeness=0.6)
    hint = f"did you mean `{close}`?" if close else f"known: {', '.join((*names, *FACTS))}"
    return f"`{metric}` is no metric of a {'classification' if classification else 'generation'} task; {hint}"


def right_or_wrong(metric: str) -> bool:
    """Whether a metric is the share of rows that are right, so that McNemar's test applies."""
    return metric in ("accuracy", "exact_match") or metric.startswith("recall/")
