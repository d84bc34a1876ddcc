"""Where prompts start."""

from __future__ import annotations

import pytest
import torch

from softprompt_core.base_model.loading import load_base
from softprompt_core.base_model.tokens import answer_ids
from softprompt_core.errors import InvalidInput
from softprompt_core.soft_prompt import initial_weights
from softprompt_core.spec import BaseModelSpec, PromptConfig
from tests.tiny_models import save_tiny


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_base(BaseModelSpec(id=str(save_tiny(tmp_path_factory.mktemp("m") / "llama", "llama"))))


def test_labels_come_first_as_means_of_their_tokens_then_frequent_vocabulary(base):
    labels = [answer_ids(base, word, close=False) for word in ("positive", "zebra")]
    assert len(labels[1]) > 1, "the second label must have several tokens for the mean to matter"
    start = initial_weights(PromptConfig(length=5), base, seed=0, label_ids=labels, frequent_ids=[70, 71, 72])
    for row, ids in zip(start[:2], labels, strict=True):
        torch.testing.assert_close(row, base.embed(torch.tensor(ids)).mean(0))
    fill = base.embed(torch.tensor([70, 71, 72]))
    assert sorted(map(tuple, start[2:].tolist())) == sorted(map(tuple, fill.tolist()))


def test_vocabulary_is_drawn_without_replacement_and_without_special_tokens(base):
    ids = list(range(300))
    start = initial_weights(PromptConfig(length=200, init="vocabulary"), base, seed=3, frequent_ids=ids)
    assert len({tuple(row) for row in start.tolist()}) == 200
    special = base.embed(torch.tensor(base.tokenizer.all_special_ids)).tolist()
    assert not {tuple(row) for row in start.tolist()} & {tuple(row) for row in special}


def test_uniform_has_the_spread_of_the_embeddings(base):
    start = initial_weights(PromptConfig(length=400, init="uniform"), base, seed=0)
    assert float(start.pow(2).mean().sqrt()) == pytest.approx(base.embedding_rms, rel=0.05)


def test_text_starts_from_its_words(base):
    start = initial_weights(PromptConfig(length=30, init="text", text="good film"), base, seed=0)
    ids = base.tokenizer("good film", add_special_tokens=False)["input_ids"]
    torch.testing.assert_close(start[: len(ids)], base.embed(torch.tensor(ids)))


@pytest.mark.parametrize("init", ["labels", "vocabulary", "uniform"])
def test_the_same_seed_gives_the_same_start_and_another_seed_another(base, init):
    config = PromptConfig(length=6, init=init)
    first, again, other = (initial_weights(config, base, seed=s, frequent_ids=list(range(10, 200))) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_given_prompt_of_another_length_is_refused(base):
    with pytest.raises(InvalidInput, match=r"set prompt\.length to 7"):
        initial_weights(PromptConfig(length=5, init="champion"), base, seed=0, given=torch.zeros(7, base.hidden_size))
