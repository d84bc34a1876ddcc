"""Rows of many tasks in one batch answer as each task does by itself."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from softprompt_core.base_model.loading import load_base
from softprompt_core.errors import InvalidInput
from softprompt_core.serving import Predictor, Request, Router
from softprompt_core.soft_prompt import SoftPrompt
from softprompt_core.spec import BaseModelSpec, PromptSpec, load_spec
from tests.tiny_models import save_tiny
from tests.toy_task import write_toy

TEXTS = ["the film was good", "a bad book", "news of the world", "was it a great film and a poor book in the world"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("m") / "llama", "llama")


def predictor(folder: Path, place: Path, length: int, position: str, labels: tuple[str, ...], **data) -> Predictor:
    base = load_base(BaseModelSpec(id=str(folder)))
    weights = torch.randn(length, base.hidden_size, generator=torch.Generator().manual_seed(length)) * base.embedding_rms
    spec = load_spec(write_toy(place, folder)).model_dump()
    spec["data"] |= data
    if not labels:
        spec |= {"gates": (), "evaluation": spec["evaluation"] | {"max_new_tokens": 4}}
    return Predictor(base, SoftPrompt(weights, position, base.identity, "toy", labels), PromptSpec.model_validate(spec))


@pytest.fixture(scope="module")
def router(folder, tmp_path_factory) -> Router:
    place = tmp_path_factory.mktemp("toy")
    target = {"template": "{label}", "column": None, "labels": None}
    return Router(
        {
            "tone": predictor(folder, place, 4, "prefix", ("positive", "negative")),
            "kind": predictor(folder, place, 7, "prefix", ("film", "book", "news", "not sure", "not"), input="text: {text}"),
            "after": predictor(folder, place, 3, "suffix", ("yes", "no")),
            "write": predictor(folder, place, 2, "prefix", (), target=target),
        }
    )


def test_rows_of_many_tasks_answer_as_each_task_does_alone(router):
    requests = [Request(task, {"text": text}) for text in TEXTS for task in ("tone", "write", "kind", "after")]
    answers = router.predict(requests)
    for request, answer in zip(requests, answers, strict=True):
        alone = router.predictors[request.task].predict(pd.DataFrame([request.row])).iloc[0]
        assert answer.prediction == alone["prediction"]
        assert (answer.probability is None) == (request.task == "write")
        if answer.probability is not None:
            assert answer.probability == pytest.approx(alone["probability"], rel=1e-4)
    assert {a.prediction for a, r in zip(answers, requests, strict=True) if r.task == "after"} <= {"yes", "no"}


def test_nothing_asked_is_nothing_answered(router):
    assert router.predict([]) == []


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request("mood", {"text": "x"}), "no such task `mood`"),
        (Request("tone", {"txt": "x"}), "the column `text` is missing"),
        (Request("tone", {"text": None}), "row 1: `text`"),
    ],
)
def test_a_bad_row_is_named(router, request_, words):
    with pytest.raises(InvalidInput, match=words):
        router.predict([Request("tone", {"text": "fine"}), request_])


def test_tasks_on_different_bases_are_refused(router, tmp_path):
    other = predictor(save_tiny(tmp_path / "other", "llama", seed=3), tmp_path, 4, "prefix", ("yes", "no"))
    with pytest.raises(InvalidInput, match="different bases"):
        Router({"tone": router.predictors["tone"], "other": other})
