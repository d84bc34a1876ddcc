"""Tiny random models with a real tokenizer, saved as folders: what tests load in place of a downloaded base."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

WORDS = (
    "the a of to and in it is was good bad great poor film book "
    "answer question positive negative yes no not sure maybe news sport world"
).split()
SIZES = dict(vocab_size=320, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)


def tokenizer(closing: bool = False) -> transformers.PreTrainedTokenizerFast:
    """Byte-level BPE over a few words; begins texts with <s>, or closes them with </s> as T5 does."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=closing)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([" " + " ".join(WORDS)] * 20, trainer)
    inner.post_processor = processors.TemplateProcessing(
        single="$A </s>" if closing else "<s> $A", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


_T5 = dict(vocab_size=320, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0)
_OPT = dict(vocab_size=320, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=32)
_BART = dict(vocab_size=320, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4)
_ROPE = dict(**SIZES, max_position_embeddings=128)
_IDS = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)
# What matters: grouped heads, scaled embeddings, windows shorter than a row, learned positions, ALiBi, relative positions.
_WINDOW = dict(sliding_window=6, layer_types=["sliding_attention", "full_attention"])
FAMILIES: dict[str, Callable[[], transformers.PretrainedConfig]] = {
    "llama": lambda: transformers.LlamaConfig(**_ROPE, num_key_value_heads=2),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=320, n_embd=32, n_layer=2, n_head=4, n_positions=128, **_IDS),
    "qwen3": lambda: transformers.Qwen3Config(**_ROPE, num_key_value_heads=2, head_dim=8),
    "gemma3": lambda: transformers.Gemma3TextConfig(**_ROPE, num_key_value_heads=2, head_dim=8, **_WINDOW),
    "mistral": lambda: transformers.MistralConfig(**_ROPE, num_key_value_heads=2, sliding_window=6),
    "opt": lambda: transformers.OPTConfig(**_OPT, max_position_embeddings=128, **_IDS),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**_ROPE),
    "bloom": lambda: transformers.BloomConfig(vocab_size=320, hidden_size=32, n_layer=2, n_head=4, **_IDS),
    "phi": lambda: transformers.PhiConfig(**_ROPE),
    "t5": lambda: transformers.T5Config(**_T5, pad_token_id=0, eos_token_id=2),
    "bart": lambda: transformers.BartConfig(
        **_BART, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=128, decoder_start_token_id=2, **_IDS
    ),
}
CAUSAL = [family for family in FAMILIES if family not in ("t5", "bart")]

_BERT = dict(vocab_size=320, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
_GEMMA3N = dict(vocab_size_per_layer_input=320, hidden_size_per_layer_input=8, num_kv_shared_layers=0, laurel_rank=4)
_SIDES = dict(**_BART, encoder_ffn_dim=64, decoder_ffn_dim=64, decoder_start_token_id=2, **_IDS)
_LONG_ROPE = dict(rope_type="longrope", rope_theta=10000.0, short_factor=[1.0] * 4, long_factor=[4.0] * 4)
# Without keys and values, read in both directions, scaled outside of the embedding, with other inputs than embeddings, …
UNUSUAL: dict[str, Callable[[], transformers.PretrainedConfig]] = {
    "mamba": lambda: transformers.MambaConfig(vocab_size=320, hidden_size=32, num_hidden_layers=2, state_size=4),
    "lfm2": lambda: transformers.Lfm2Config(**_ROPE, num_key_value_heads=2, layer_types=["conv", "full_attention"]),
    "openai-gpt": lambda: transformers.OpenAIGPTConfig(vocab_size=320, n_embd=32, n_layer=2, n_head=4, n_positions=128),
    "opt-narrow": lambda: transformers.OPTConfig(**{**_OPT, "word_embed_proj_dim": 16}, max_position_embeddings=128, **_IDS),
    "bert": lambda: transformers.BertConfig(**_BERT),
    "roberta": lambda: transformers.RobertaConfig(**_BERT, is_decoder=True, max_position_embeddings=128),
    "prophetnet": lambda: transformers.ProphetNetConfig(
        vocab_size=320, hidden_size=32, num_encoder_layers=2, num_decoder_layers=2, decoder_start_token_id=1
    ),
    "pegasus": lambda: transformers.PegasusConfig(**_SIDES, scale_embedding=True),
    "led": lambda: transformers.LEDConfig(
        **_SIDES, max_encoder_position_embeddings=126, max_decoder_position_embeddings=64, attention_window=8
    ),
    "gemma3n": lambda: transformers.Gemma3nTextConfig(
        **_ROPE, **_GEMMA3N, num_key_value_heads=2, head_dim=8, activation_sparsity_pattern=[0.0, 0.0], **_WINDOW
    ),
    "gemma4": lambda: transformers.Gemma4TextConfig(
        **_ROPE, num_key_value_heads=2, head_dim=8, vocab_size_per_layer_input=320, hidden_size_per_layer_input=8, **_WINDOW
    ),
    "phi3": lambda: transformers.Phi3Config(
        **_ROPE, num_key_value_heads=2, original_max_position_embeddings=16, rope_parameters=_LONG_ROPE, **_IDS
    ),
}


def config(family: str) -> transformers.PretrainedConfig:
    return (FAMILIES | UNUSUAL)[family]()


def save_tiny(folder: Path, family: str, seed: int = 0, spread: float = 4.0, **sizes: int) -> Path:
    """Write a loadable model folder; weights are spread widely enough that differences between paths would show.

    Args:
        sizes: values of the config in place of the family's own.
    """
    torch.manual_seed(seed)
    shape = config(family)
    shape.update(sizes)
    kind = transformers.AutoModelForSeq2SeqLM if shape.is_encoder_decoder else transformers.AutoModelForCausalLM
    model = kind.from_config(shape)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(spread)
            elif family in UNUSUAL:
                parameter.add_(0.3 * torch.randn_like(parameter))  # norms that begin at zero would hide what stands before them
    model.save_pretrained(folder)
    tokenizer(closing=shape.is_encoder_decoder).save_pretrained(folder)
    return folder
