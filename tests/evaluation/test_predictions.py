from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt_core.evaluation import Predictions
from softprompt_core.evaluation.results import EvaluationResults

FLOATS = st.floats(width=64)
STORED = Path(__file__).parent / "stored"
P = Predictions(
    scorer="champion",
    ids=("test/0", "test/1"),
    gold=("no", "yes"),
    predicted=("no", "no"),
    loss=(0.25, math.nan),
    slices={"long": (True, False)},
    labels=("no", "yes"),
    scores=((-0.1, -math.inf), (math.nan, -2.5)),
)


@settings(deadline=None)  # the first call imports a library
@given(st.lists(st.tuples(st.text(), st.text(), FLOATS, st.booleans(), FLOATS, FLOATS), max_size=6))
def test_predictions_survive_json_exactly(rows: list[tuple[str, str, float, bool, float, float]]) -> None:
    before = Predictions(
        scorer="candidate",
        ids=tuple(str(i) for i in range(len(rows))),
        gold=tuple(r[0] for r in rows),
        predicted=tuple(r[1] for r in rows),
        loss=tuple(r[2] for r in rows),
        slices={"s": tuple(r[3] for r in rows)},
        labels=("a", "b"),
        scores=tuple((r[4], r[5]) for r in rows),
    )
    after = Predictions.model_validate(json.loads(json.dumps(before.model_dump(mode="json"), allow_nan=False)))
    assert repr(after) == repr(before)  # NaN does not equal itself


@pytest.mark.parametrize("name", ["evaluation_results.json", "results_without_champion.json"])
def test_results_of_the_release_before_read_and_write_the_same(name: str) -> None:
    stored = json.loads((STORED / name).read_text(encoding="utf-8"))
    results = EvaluationResults.model_validate(stored)
    assert json.dumps(results.model_dump(mode="json")) == json.dumps(stored)
    hard_prompt = results.baselines["hard_prompt"]
    assert hard_prompt.loss[0] == math.inf and math.isnan(hard_prompt.loss[1]) and hard_prompt.scores[0] == (-math.inf, 0.0)
    assert results.reference == ("hard_prompt" if "without" in name else "champion")


def test_nan_is_null_in_json() -> None:
    assert P.model_dump(mode="json")["loss"] == [0.25, None]


def test_frame_has_one_row_an_example() -> None:
    frame = P.to_frame()
    assert list(frame.columns) == ["id", "gold", "predicted", "correct", "loss", "slice/long", "score/no", "score/yes"]
    assert frame["correct"].tolist() == [True, False]
    assert frame["score/no"].iloc[0] == -0.1
    assert len(P.model_copy(update={"scores": ()}).to_frame().columns) == 6


@pytest.mark.parametrize(
    "wrong",
    [{"gold": ("no",)}, {"loss": ()}, {"slices": {"s": (True,)}}, {"scores": ((0.0, 0.0),)}, {"scores": ((0.0,), (0.0,))}],
)
def test_ragged_predictions_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="predictions of 'champion'"):
        Predictions(**{**dict(P), **wrong})
