"""The words of a hand-written prompt are never cut: the input gives way, whatever its script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from softprompt_core.base_model.loading import BaseModel, load_base
from softprompt_core.data import Example
from softprompt_core.errors import InvalidInput
from softprompt_core.evaluation.scoring import Scorer, best_hard_prompt, check_hard_prompts
from softprompt_core.spec import BaseModelSpec, PromptSpec, parse_spec
from tests.tiny_models import save_tiny

LABELS = ("negative", "positive")
TEXTS = ["a good film", "映画" * 150, "good " * 200, "ü" * 100, "</s>" * 60, "\n" * 300]


class Rows(Scorer):
    """What a hand-written prompt gives the base to read."""

    def _answers(self, engine: Any, *_: Any) -> Any:
        return engine.inputs


@pytest.fixture(scope="module", params=["llama", "bart"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    folder: Path = tmp_path_factory.mktemp("base") / request.param
    return load_base(BaseModelSpec(id=str(save_tiny(folder, request.param)), device="cpu"))


def spec(*hard_prompts: str) -> PromptSpec:
    data = {"source": {"files": {"train": "t.csv"}}, "input": "{text}", "target": {"column": "label"}}
    return parse_spec({"name": "t", "data": data, "evaluation": {"hard_prompts": list(hard_prompts)}})


def examples(*texts: str) -> list[Example]:
    return [Example(f"test/{n}", text, LABELS[n % 2], frozenset()) for n, text in enumerate(texts)]


@pytest.mark.parametrize("template", ["{input}\nAnswer:", "film: {input}", "news {input} good or bad?"])
def test_the_words_around_a_long_input_stay(base: BaseModel, template: str) -> None:
    before, after = template.split("{input}")
    rows: Any = Rows(base, spec(), examples(*TEXTS), LABELS).hard(template)
    for row, text in zip(rows, TEXTS, strict=True):
        written = base.tokenizer.decode(row, skip_special_tokens=True)
        assert written.strip().startswith(before.strip()) and written.endswith(after)
        assert len(row) <= 128
        assert len(row) > 120 or text in written, "as much of the input as there is room for"


def test_a_hand_written_prompt_that_fills_the_context_is_refused(base: BaseModel) -> None:
    check_hard_prompts(base, spec("good {input}"), [(5,), (6,)])
    with pytest.raises(InvalidInput, match=r"evaluation\.hard_prompts: 'x x .* tokens"):
        check_hard_prompts(base, spec("{input} good", "x " * 200 + "{input}"), [(5,), (6,)])


def test_default_prompts_that_list_too_many_labels_are_left_out(base: BaseModel) -> None:
    labels = tuple(f"sport number {n}" for n in range(60))
    rows = [Example(f"test/{n}", "a good film", labels[n], frozenset()) for n in range(60)]
    template, answers = best_hard_prompt(base, spec(), rows[:5], rows[:3], labels)
    assert template == "{input}\nAnswer:" and len(answers) == 3
