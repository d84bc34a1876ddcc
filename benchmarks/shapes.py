"""What is measured on: models of well-known shapes with random weights, and synthetic rows of realistic lengths.

Speed and the equality of losses do not depend on what the weights know. Everything comes from fixed seeds, so that a process
started for a memory measurement builds the same things again. Dropout is zero: no side could be compared otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

LABELS = (10, 11, 12, 13)  # token ids of the four label words
_SPREAD = 0.45  # of the logarithm of the lengths; sentences of SST-2 and TREC spread about so


class Example(NamedTuple):
    """One row: token ids of the input, and the one token that should follow."""

    input_ids: tuple[int, ...]
    target: int


@dataclass(frozen=True)
class Recipe:
    """Optimiser settings that every side follows: AdamW, clipping, linear decay to 2 % of the peak, no warm-up.

    Attributes:
        position: where our prompts stand; the peers know prefix prompts only.
    """

    steps: int
    batch_size: int = 32
    learning_rate: float = 0.01
    weight_decay: float = 1e-5
    max_grad_norm: float = 1.0
    betas: tuple[float, float] = (0.9, 0.98)
    seed: int = 0
    position: Literal["prefix", "suffix"] = "prefix"

    def rate(self, step: int) -> float:
        return self.learning_rate * max(1 - step / self.steps, 0.02)


def _configs() -> dict[str, Any]:
    import transformers as t

    def llama(**sizes: int) -> Any:
        heads = dict(num_key_value_heads=sizes.get("num_attention_heads", 8), max_position_embeddings=2048) | sizes
        return t.LlamaConfig(**heads, tie_word_embeddings=sizes["vocab_size"] > 100_000)

    return {
        "tiny-llama": llama(vocab_size=320, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4),
        "tiny-t5": t.T5Config(vocab_size=320, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, dropout_rate=0.0),
        "llama-50m": llama(
            vocab_size=32_000, hidden_size=512, intermediate_size=1376, num_hidden_layers=8, num_attention_heads=8
        ),
        "gpt2-small": t.GPT2Config(attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0),
        "t5-small": t.T5Config(vocab_size=32_128, d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8, dropout_rate=0.0),
        "llama-1b": llama(  # as Llama 3.2 1B; for a GPU
            vocab_size=128_256,
            hidden_size=2048,
            intermediate_size=8192,
            num_hidden_layers=16,
            num_attention_heads=32,
            num_key_value_heads=8,
        ),
    }


def build(name: str, device: str = "cpu", dtype: str = "float32") -> Any:
    """A frozen model of that shape in eval mode: ``bundled`` with its real weights, the others with random ones."""
    import transformers

    if name == "bundled":
        from softprompt_core.base_model.identity import BUNDLED

        model = transformers.AutoModelForCausalLM.from_pretrained(BUNDLED, dtype=getattr(torch, dtype))
    else:
        config = _configs()[name]
        if config.is_encoder_decoder:
            config.decoder_start_token_id = config.pad_token_id = 0
        family = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
        torch.manual_seed(0)
        model = family.from_config(config, dtype=getattr(torch, dtype))
    model.requires_grad_(False)
    return model.eval().to(device)


def examples(model: Any, count: int, mean_tokens: int, seed: int = 0) -> list[Example]:
    """Rows with lognormal lengths of that mean, between 4 tokens and four times the mean; the last token tells the label."""
    random = np.random.default_rng([seed, mean_tokens])
    lengths = random.lognormal(np.log(mean_tokens) - _SPREAD**2 / 2, _SPREAD, count).round().clip(4, 4 * mean_tokens)
    vocabulary = min(model.config.vocab_size, 30_000)
    rows = []
    for index, length in enumerate(lengths.astype(int)):
        label = index % len(LABELS)
        words = random.integers(40, vocabulary, length - 1).tolist()
        rows.append(Example((*words, 20 + label), LABELS[label]))
    return rows


def start(model: Any, length: int, seed: int = 0) -> Tensor:
    """The initial prompt, float32 ``[length, hidden]``: on the scale of the model's embeddings."""
    table = model.get_input_embeddings().weight
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(40, len(table), (length,), generator=random)
    return table.detach()[ids.to(table.device)].float().cpu().clone()


def parameters(model: Any) -> int:
    return sum(p.numel() for p in model.parameters())
