from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt_core.evaluation import Predictions

FLOATS = st.floats(width=64)
P = Predictions(
    "champion", ("test/0", "test/1"), ("no", "yes"), ("no", "no"), (0.25, math.nan), {"long": (True, False)}, ("no", "yes"),
    ((-0.1, -math.inf), (math.nan, -2.5)),
)  # fmt: skip


@settings(deadline=None)  # the first call imports a library
@given(st.lists(st.tuples(st.text(), st.text(), FLOATS, st.booleans(), FLOATS, FLOATS), max_size=6))
def test_predictions_survive_json_exactly(rows: list[tuple[str, str, float, bool, float, float]]) -> None:
    before = Predictions(
        "candidate", tuple(str(i) for i in range(len(rows))), tuple(r[0] for r in rows), tuple(r[1] for r in rows),
        tuple(r[2] for r in rows), {"s": tuple(r[3] for r in rows)}, ("a", "b"), tuple((r[4], r[5]) for r in rows),
    )  # fmt: skip
    after = Predictions.from_json(json.loads(json.dumps(before.to_json(), allow_nan=False)))
    assert repr(after) == repr(before)  # NaN does not equal itself


def test_nan_is_null_in_json() -> None:
    assert P.to_json()["loss"] == [0.25, None]


def test_frame_has_one_row_an_example() -> None:
    frame = P.to_frame()
    assert list(frame.columns) == ["id", "gold", "predicted", "correct", "loss", "slice/long", "score/no", "score/yes"]
    assert frame["correct"].tolist() == [True, False]
    assert frame["score/no"].iloc[0] == -0.1
    assert len(dataclasses.replace(P, scores=()).to_frame().columns) == 6


@pytest.mark.parametrize(
    "wrong",
    [{"gold": ("no",)}, {"loss": ()}, {"slices": {"s": (True,)}}, {"scores": ((0.0, 0.0),)}, {"scores": ((0.0,), (0.0,))}],
)
def test_ragged_predictions_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="predictions of 'champion'"):
        dataclasses.replace(P, **wrong)
