"""Generated text equals what the plain statement would write token by token, alone or in a batch."""

from __future__ import annotations

import pytest
import torch

from softprompt_core.base_model.loading import load_base
from softprompt_core.base_model.tokens import TokenizedRow
from softprompt_core.forward import Engine, generate, plain_target_logits
from softprompt_core.spec import BaseModelSpec
from tests.tiny_models import save_tiny

INPUTS = [(1, 40, 41, 42, 43, 44), (1, 90), (1, 100, 101)]


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5"])
@pytest.mark.parametrize("position", ["prefix", "suffix"])
def test_greedy_generation_equals_the_plain_statement(tmp_path, family, position):
    base = load_base(BaseModelSpec(id=str(save_tiny(tmp_path / family, family))))
    prompt = torch.randn(4, base.hidden_size, generator=torch.Generator().manual_seed(1)) * base.embedding_rms
    texts = generate(Engine(base, position, INPUTS), prompt, max_new_tokens=6)
    for text, ids in zip(texts, INPUTS, strict=True):
        written: list[int] = []
        while len(written) < 6 and base.tokenizer.eos_token_id not in written:
            logits = plain_target_logits(base, prompt, position, [TokenizedRow(ids, (*written, 0))])[0]
            written.append(int(logits[-1].argmax()))
        assert text == base.tokenizer.decode(written, skip_special_tokens=True).strip()


def test_beam_search_finds_an_answer_at_least_as_likely_as_greedy(tmp_path):
    base = load_base(BaseModelSpec(id=str(save_tiny(tmp_path / "llama", "llama"))))
    prompt = torch.randn(4, base.hidden_size, generator=torch.Generator().manual_seed(1)) * base.embedding_rms
    engine = Engine(base, "suffix", INPUTS)
    greedy, beam = (generate(engine, prompt, max_new_tokens=3, num_beams=n) for n in (1, 4))
    assert len(beam) == len(INPUTS) and beam != greedy, "with random weights some answer must differ, or beams are not used"
