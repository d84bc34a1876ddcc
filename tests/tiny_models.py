"""Tiny random models with a real tokenizer, saved as folders: what tests load in place of a downloaded base."""

from __future__ import annotations

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


def config(family: str) -> transformers.PretrainedConfig:
    if family == "llama":
        return transformers.LlamaConfig(**SIZES, num_key_value_heads=2, max_position_embeddings=128)
    if family == "gpt2":
        return transformers.GPT2Config(vocab_size=320, n_embd=32, n_layer=2, n_head=4, n_positions=128)
    if family == "qwen3":
        return transformers.Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=8, max_position_embeddings=128)
    if family == "t5":
        return transformers.T5Config(
            vocab_size=320,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            decoder_start_token_id=0,
            pad_token_id=0,
            eos_token_id=2,
        )
    raise ValueError(family)


def save_tiny(folder: Path, family: str, seed: int = 0) -> Path:
    """Write a loadable model folder; weights are spread widely enough that differences between paths would show."""
    torch.manual_seed(seed)
    shape = config(family)
    kind = transformers.AutoModelForSeq2SeqLM if shape.is_encoder_decoder else transformers.AutoModelForCausalLM
    model = kind.from_config(shape)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0)
    model.save_pretrained(folder)
    tokenizer(closing=shape.is_encoder_decoder).save_pretrained(folder)
    return folder
