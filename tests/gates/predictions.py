"""Predictions for gate tests: from right and wrong answers, or at random."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hypothesis import strategies as st

from softprompt_core.evaluation import Predictions
from softprompt_core.spec import GateSpec
from softprompt_core.spec.gates import FACTS

LABELS = ("no", "yes")


def with_fields(predictions: Predictions, **fields: object) -> Predictions:
    """The same predictions with other fields, checked again."""
    return Predictions(**{**dict(predictions), **fields})


def answers(
    right: Sequence[bool], *, scorer: str = "candidate", loss: float = 0.5, slices: dict[str, Sequence[bool]] | None = None
) -> Predictions:
    """Alternating gold labels; each answer right or wrong as told."""
    gold = tuple(LABELS[i % 2] for i in range(len(right)))
    predicted = tuple(g if ok else LABELS[1 - LABELS.index(g)] for g, ok in zip(gold, right, strict=True))
    return Predictions(
        scorer=scorer,
        ids=tuple(f"test/{i}" for i in range(len(right))),
        gold=gold,
        predicted=predicted,
        loss=(loss,) * len(right),
        slices={name: tuple(values) for name, values in (slices or {}).items()},
        labels=LABELS,
    )


def share(right: int, rows: int, **fields: object) -> Predictions:
    """``right`` of ``rows`` answers right, the first ones."""
    return answers([i < right for i in range(rows)], **fields)  # type: ignore[arg-type]


METRICS = ("accuracy", "macro_f1", "loss", "ece", "f1/no", "recall/yes", "precision/yes", "f1/", "bleu", "nonsense", "", *FACTS)
NUMBERS = st.one_of(st.floats(width=32), st.sampled_from([0.0, 0.5, 1.0, math.nan, math.inf, -math.inf]))
MAYBE = st.none() | NUMBERS

any_gates = st.builds(
    GateSpec.model_construct,
    metric=st.sampled_from(METRICS),
    at_least=MAYBE,
    at_most=MAYBE,
    versus=st.sampled_from([None, "champion", "hard_prompt", "majority", "somebody"]),
    margin=MAYBE,
    by=MAYBE,
    slice=st.sampled_from([None, "long", "empty", "missing", "*"]),
    test=st.sampled_from(["auto", "mcnemar", "bootstrap", "unknown"]),
    in_doubt=st.sampled_from(["fail", "pass", "unknown"]),
    confidence=st.none() | st.sampled_from([0.9, 0.95, 2.0, math.nan]),
    min_examples=st.sampled_from([1, 20]),
)


@st.composite
def any_predictions(draw: st.DrawFn) -> Predictions:
    rows = draw(st.integers(0, 30))
    labels = draw(st.sampled_from([LABELS, (), ("no",)]))
    words = st.lists(st.sampled_from(["no", "yes", "", "other"]), min_size=rows, max_size=rows).map(tuple)
    row_of_scores = st.tuples(*[NUMBERS] * len(labels))
    return Predictions(
        scorer=draw(st.sampled_from(["candidate", "champion"])),
        ids=tuple(map(str, range(rows))),
        gold=draw(words),
        predicted=draw(words),
        loss=tuple(draw(st.lists(NUMBERS, min_size=rows, max_size=rows))),
        slices={"long": tuple(draw(st.lists(st.booleans(), min_size=rows, max_size=rows))), "empty": (False,) * rows},
        labels=labels,
        scores=tuple(draw(st.lists(row_of_scores, min_size=rows, max_size=rows))) if draw(st.booleans()) else (),
    )
