"""Training, evaluation and serving cut an input alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from softprompt_core.base_model.loading import BaseModel, load_base
from softprompt_core.data import Example
from softprompt_core.evaluation.scoring import Scorer
from softprompt_core.lifecycle.resolve import resolve
from softprompt_core.lifecycle.tokenized import release, tokenized
from softprompt_core.serving import Predictor
from softprompt_core.soft_prompt import SoftPrompt
from softprompt_core.spec import BaseModelSpec, PromptSpec, load_spec
from tests.tiny_models import save_tiny
from tests.toy_task import write_toy

LONG = "the film was " * 60  # more tokens than the base's context of 128
TARGETS = {"short": "good", "long": "a great book " * 30}


@pytest.fixture
def base(tmp_path: Path) -> BaseModel:
    return load_base(BaseModelSpec(id=str(save_tiny(tmp_path / "gpt2", "gpt2"))))  # learned positions: there is none beyond 128


def generation(folder: Path, base: BaseModel) -> PromptSpec:
    spec = load_spec(write_toy(folder, folder / "gpt2")).model_dump()
    spec["data"]["target"] = {"template": "{label}", "column": None, "labels": None}
    return PromptSpec.model_validate(spec | {"gates": (), "evaluation": spec["evaluation"] | {"max_new_tokens": 8}})


@pytest.mark.parametrize("position", ["prefix", "suffix"])
def test_inputs_are_cut_alike_in_training_evaluation_and_serving_however_long_a_test_target_is(
    base: BaseModel, tmp_path: Path, position: str
) -> None:
    spec = generation(tmp_path, base)
    prompt = SoftPrompt(torch.randn(spec.prompt.length, base.hidden_size), position, base.identity, "toy")
    served = Predictor(base, prompt, spec).encode([LONG])
    assert len(served[0]) == 128 - spec.prompt.length - 8
    for target in TARGETS.values():
        scorer = Scorer(base, spec, [Example("test/0", LONG, target, frozenset())], ())
        assert scorer.engine(prompt).inputs == served
        (loss,) = scorer.soft(prompt, "candidate").loss
        assert loss == loss
    assert tokenized(resolve(spec)).limit(spec) == len(served[0])
    release()
