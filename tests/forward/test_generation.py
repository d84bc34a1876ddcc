"""Generated text equals what the plain statement would write token by token, alone or in a batch."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from softprompt_core.base_model import loading
from softprompt_core.base_model.loading import load_base
from softprompt_core.base_model.tokens import TokenizedRow
from softprompt_core.errors import InvalidInput
from softprompt_core.forward import Engine, generate, plain_target_logits
from softprompt_core.spec import BaseModelSpec
from tests.tiny_models import save_tiny

INPUTS = [(1, 40, 41, 42, 43, 44), (1, 90), (1, 100, 101)]


def plain_texts(base, prompt, position):
    """What the plain statement writes token by token."""
    texts = []
    for ids in INPUTS:
        written: list[int] = []
        while len(written) < 6 and base.tokenizer.eos_token_id not in written:
            logits = plain_target_logits(base, prompt, position, [TokenizedRow(ids, (*written, 0))])[0]
            written.append(int(logits[-1].argmax()))
        texts.append(base.tokenizer.decode(written, skip_special_tokens=True).strip())
    return texts


def soft(base):
    return torch.randn(4, base.hidden_size, generator=torch.Generator().manual_seed(1)) * base.embedding_rms


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5"])
@pytest.mark.parametrize("position", ["prefix", "suffix"])
def test_greedy_generation_equals_the_plain_statement(tmp_path, family, position):
    base = load_base(BaseModelSpec(id=str(save_tiny(tmp_path / family, family))))
    assert generate(Engine(base, position, INPUTS), soft(base), max_new_tokens=6) == plain_texts(base, soft(base), position)


@pytest.mark.parametrize("family", ["mamba", "lfm2", "openai-gpt"])
@pytest.mark.parametrize("position", ["prefix", "suffix"])
def test_a_base_on_the_slow_path_writes_each_row_by_itself(tmp_path, family, position):
    base = load_base(BaseModelSpec(id=str(save_tiny(tmp_path / family, family))))
    with pytest.warns(RuntimeWarning, match="slow path"):
        engine = Engine(base, position, INPUTS)
    assert generate(engine, soft(base), max_new_tokens=6) == plain_texts(base, soft(base), position)


@pytest.mark.parametrize("family", ["llama", "t5", "bart"])
def test_settings_that_came_with_the_model_write_no_word_of_an_answer(tmp_path, family):
    folder = save_tiny(tmp_path / family, family)
    asked = load_base(BaseModelSpec(id=str(folder)))
    greedy, beams = (generate(Engine(asked, "prefix", INPUTS), soft(asked), max_new_tokens=6, num_beams=n) for n in (1, 3))
    settings = dict(forced_bos_token_id=90, forced_eos_token_id=91, min_length=40, min_new_tokens=6, no_repeat_ngram_size=1)
    settings |= dict(do_sample=True, temperature=9.0, num_beams=4, suppress_tokens=[60, 61], repetition_penalty=5.0, max_length=3)
    settings |= dict(length_penalty=-9.0, bad_words_ids=[[62]], begin_suppress_tokens=[63], early_stopping=True)
    (folder / "generation_config.json").write_text(json.dumps(settings))
    config = json.loads((folder / "config.json").read_text())  # where older releases of the library kept them
    (folder / "config.json").write_text(json.dumps({**config, "num_beams": 4, "no_repeat_ngram_size": 1, "min_length": 30}))
    (folder / "README.md").write_text("another time stamp")
    again = replace(asked, model=type(asked.model).from_pretrained(folder))
    assert again.model.generation_config.min_length == 40, "the library takes them up"
    again = loading._load(loading._LoadOptions(asked.identity, str(folder), "cpu", torch.float32, None, None))
    engine = Engine(again, "prefix", INPUTS)
    assert generate(engine, soft(again), max_new_tokens=6) == greedy == plain_texts(asked, soft(asked), "prefix")
    assert generate(engine, soft(again), max_new_tokens=6, num_beams=3) == beams


def test_a_base_that_cannot_search_with_beams_says_so(tmp_path):
    base = load_base(BaseModelSpec(id=str(save_tiny(tmp_path / "gpt", "openai-gpt"))))
    with pytest.warns(RuntimeWarning, match="slow path"):
        engine = Engine(base, "suffix", INPUTS)
    with pytest.raises(InvalidInput, match=r"evaluation\.num_beams: 3"):
        generate(engine, soft(base), max_new_tokens=3, num_beams=3)


def test_beam_search_finds_an_answer_at_least_as_likely_as_greedy(tmp_path):
    base = load_base(BaseModelSpec(id=str(save_tiny(tmp_path / "llama", "llama"))))
    engine = Engine(base, "suffix", INPUTS)
    greedy, beam = (generate(engine, soft(base), max_new_tokens=3, num_beams=n) for n in (1, 4))
    assert len(beam) == len(INPUTS) and beam != greedy, "with random weights some answer must differ, or beams are not used"
