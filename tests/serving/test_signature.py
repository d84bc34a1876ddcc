"""Whatever training accepted, the registered model accepts, with the answer that evaluation gave."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.utils.proto_json_utils import dataframe_from_parsed_json

from softprompt_core.base_model.loading import BaseModel, load_base
from softprompt_core.data import load_new_rows
from softprompt_core.errors import InvalidInput
from softprompt_core.evaluation import Predictions
from softprompt_core.evaluation.scoring import Scorer
from softprompt_core.lifecycle.register import _CODE, signature_of, spec_yaml
from softprompt_core.serving import SPEC_FILE, Predictor, Request, Router
from softprompt_core.soft_prompt import FILE_NAME, SoftPrompt
from softprompt_core.spec import BaseModelSpec, PromptSpec, parse_spec
from tests.tiny_models import save_tiny

LABELS = ("good", "bad", "not sure")
FIRST_ROW = {"text": "the film", "number": 2**70, "reviews.id": "x"}
# What a frame cannot hold as it is: whole numbers of more than 53 bits beside fractions.
exact = st.integers(-(2**53), 2**53)
texts = st.text(st.characters(codec="utf-8"), max_size=8)
column = st.sampled_from(
    [
        texts,
        st.integers(-(2**80), 2**80),
        exact | st.floats(allow_nan=False, allow_infinity=False),
        exact | texts,
        st.booleans() | st.none(),
    ]
)


@pytest.fixture(scope="module")
def base_spec(tmp_path_factory: pytest.TempPathFactory) -> BaseModelSpec:
    return BaseModelSpec(id=str(save_tiny(tmp_path_factory.mktemp("m") / "llama", "llama")), device="cpu")


@pytest.fixture(scope="module")
def base(base_spec: BaseModelSpec) -> BaseModel:
    return load_base(base_spec)


@pytest.fixture(scope="module")
def spec(base_spec: BaseModelSpec) -> PromptSpec:
    data = {
        "source": {"files": {"train": "unused.jsonl"}},
        "input": "{text}: {number:>3} {reviews.id}",
        "target": {"column": "label"},
        "max_bad_rows": 100,
    }
    return parse_spec({"name": "toy", "base_model": base_spec.model_dump(), "data": data})


@pytest.fixture(scope="module")
def prompt(base: BaseModel) -> SoftPrompt:
    weights = torch.randn(4, base.hidden_size, generator=torch.Generator().manual_seed(0)) * base.embedding_rms
    return SoftPrompt(weights, "suffix", base.identity, "toy", LABELS)


@pytest.fixture(scope="module")
def saved(spec: PromptSpec, prompt: SoftPrompt, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's folder, saved as a version is, with a first row that fits no type of MLflow's."""
    folder = tmp_path_factory.mktemp("version") / "soft_prompt"
    folder.mkdir()
    prompt.save(folder / FILE_NAME)
    (folder / SPEC_FILE).write_text(spec_yaml(spec), encoding="utf-8")
    mlflow.pyfunc.save_model(
        path=str(folder.parent / "model"),
        python_model=str(_CODE),
        artifacts={"soft_prompt": str(folder)},
        signature=signature_of(spec),
        input_example=pd.DataFrame([FIRST_ROW], dtype=object),
        pip_requirements=["mlflow"],
    )
    return folder.parent / "model"


@pytest.fixture(scope="module")
def served(saved: Path) -> mlflow.pyfunc.PyFuncModel:
    return mlflow.pyfunc.load_model(str(saved))


def evaluated(base: BaseModel, spec: PromptSpec, prompt: SoftPrompt, folder: Path, rows: list[dict[str, Any]]) -> Predictions:
    """Answers to the rows of a file that training would use; ``ids`` tell which."""
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    examples = [replace(example, target=LABELS[0]) for example in load_new_rows(spec, LABELS, [str(file)]).examples]
    return Scorer(base, spec, examples, LABELS).soft(prompt, "candidate")


@settings(max_examples=40, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_training_accepted_is_answered_as_in_evaluation(
    data: st.DataObject,
    base: BaseModel,
    spec: PromptSpec,
    prompt: SoftPrompt,
    served: mlflow.pyfunc.PyFuncModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    kinds = {name: data.draw(column) for name in FIRST_ROW}
    rows = data.draw(st.lists(st.fixed_dictionaries(kinds), min_size=1, max_size=5))
    expected = evaluated(base, spec, prompt, tmp_path_factory.mktemp("rows"), rows)
    kept = [rows[int(row.partition("/")[2])] for row in expected.ids]
    if not kept:
        return
    answers = served.predict(pd.DataFrame(kept))
    probabilities = [math.exp(max(row)) for row in expected.scores]
    assert list(answers["prediction"]) == list(expected.predicted)
    assert list(answers["probability"]) == pytest.approx(probabilities, rel=1e-4)


def test_dates_decimals_and_missing_cells_are_taken_as_in_training(served: mlflow.pyfunc.PyFuncModel) -> None:
    rows = [{"text": date(2024, 1, 2), "number": Decimal("1.50"), "reviews.id": datetime(2024, 1, 2, 3)}]
    written = [{"text": "2024-01-02", "number": "1.50", "reviews.id": "2024-01-02T03:00:00"}]
    assert served.predict(pd.DataFrame(rows)).equals(served.predict(pd.DataFrame(written)))
    for missing in (None, float("nan"), pd.NaT, pd.NA, " "):
        with pytest.raises(InvalidInput, match="row 1: `number` is empty"):
            served.predict(pd.DataFrame([rows[0], rows[0] | {"number": missing}]))


def test_the_input_example_is_answered_as_mlflow_s_server_reads_it(saved: Path, served: mlflow.pyfunc.PyFuncModel) -> None:
    example = json.loads((saved / "serving_input_example.json").read_text())["dataframe_split"]
    frame = dataframe_from_parsed_json(example, "split", served.metadata.get_input_schema())
    assert frame["number"].tolist() == [2**70]
    assert served.predict(frame).equals(served.predict(pd.DataFrame([FIRST_ROW])))


def test_a_column_that_a_frame_has_twice_is_refused(base: BaseModel, spec: PromptSpec, prompt: SoftPrompt) -> None:
    frame = pd.DataFrame([["a", 1, "x", "b"]], columns=["text", "number", "reviews.id", "text"])
    with pytest.raises(InvalidInput, match="two columns are called `text`"):
        Predictor(base, prompt, spec).predict(frame)


def test_a_router_takes_the_same_cells(base: BaseModel, spec: PromptSpec, prompt: SoftPrompt) -> None:
    predictor = Predictor(base, prompt, spec)
    row = {"text": date(2024, 1, 2), "number": 5.0, "reviews.id": 7}
    (answer,) = Router({"toy": predictor}).predict([Request("toy", row)])
    assert answer.prediction == predictor.predict(pd.DataFrame([row | {"number": 5}]))["prediction"][0]
