"""Tokenizers of all kinds, small and random, for a model whose own tokenizer is of no interest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import transformers
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from softprompt_core.base_model.loading import BaseModel
from tests.tiny_models import WORDS, tokenizer

CONTROL = ("</s>", "<pad>", "<s>", "<|im_start|>")
LETTERS = "abcdefghijklmnopqrstuvwxyz</>|_ "
Fast = transformers.PreTrainedTokenizerFast


def with_tokenizer(base: BaseModel, other: Fast) -> BaseModel:
    """The same model read with another tokenizer."""
    return replace(base, tokenizer=other)


def word_list(words: Sequence[str], *, end: bool = True, unknown: bool = True) -> Fast:
    """Whole words between blanks; control tokens are words of the list as well."""
    names = [*(["<unk>"] if unknown else []), *CONTROL, *words]
    inner = Tokenizer(models.WordLevel({name: n for n, name in enumerate(dict.fromkeys(names))}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _fast(inner, end, unknown)


def pieces(words: Sequence[str], *, end: bool = True) -> Fast:
    """SentencePiece's unigrams with its normaliser, where control tokens are pieces like all others."""
    inner = Tokenizer(
        models.Unigram(
            [("<unk>", 0.0), *((name, 0.0) for name in CONTROL), ("▁", -2.0)]
            + [(f"▁{word}", -3.0 - n / 10) for n, word in enumerate(dict.fromkeys(words))]
            + [(letter, -5.0) for letter in LETTERS if letter != " "],
            unk_id=0,
        )
    )
    inner.normalizer = normalizers.NFKC()
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    return _fast(inner, end, True)


def byte_pairs(*, end: bool = True, closing: bool = False) -> Fast:
    """Byte-level BPE; begins texts with <s> or closes them with </s>."""
    made = tokenizer(closing)
    return made if end else Fast(tokenizer_object=made.backend_tokenizer, bos_token="<s>", pad_token="<pad>")


def _fast(inner: Tokenizer, end: bool, unknown: bool) -> Fast:
    if end:
        number = inner.token_to_id("</s>")
        inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", number)])
    names = {"eos_token": "</s>"} if end else {}
    names |= {"unk_token": "<unk>"} if unknown else {}
    return Fast(tokenizer_object=inner, pad_token="<pad>", extra_special_tokens=["<|im_start|>", "<s>", "</s>"], **names)


any_words = st.lists(st.text("nosturey", min_size=1, max_size=5) | st.sampled_from(WORDS), max_size=12)
any_tokenizer = st.one_of(
    st.builds(word_list, any_words, end=st.booleans(), unknown=st.booleans()),
    st.builds(pieces, any_words, end=st.booleans()),
    st.builds(byte_pairs, end=st.booleans(), closing=st.booleans()),
)
any_text = st.lists(
    st.sampled_from([*WORDS, *CONTROL, "<unk>", "＜/s＞", "日本", "<", "/s>", " ", "\n", "x"]) | st.text(max_size=4), max_size=8
).map("".join)
