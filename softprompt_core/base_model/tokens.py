"""Text to token ids: inputs, answers, labels.

Notation used from here on: B rows, T tokens, P prompt vectors, H hidden size, V vocabulary, L labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from softprompt_core.base_model.loading import BaseModel
from softprompt_core.errors import InvalidInput
from softprompt_core.spec import PromptSpec

_MAX_CONTEXT = 4096  # tokens; some bases claim far more than any task needs


@dataclass(frozen=True)
class TokenizedRow:
    """One example as token ids: ``input_ids`` as the base reads them, ``target_ids`` as it should answer."""

    input_ids: tuple[int, ...]
    target_ids: tuple[int, ...]


def answer_room(spec: PromptSpec, labels: Sequence[Sequence[int]]) -> int:
    """Tokens kept free for an answer: those of the longest label, or as many as may be generated.

    Training, evaluation and serving all ask here, so that they cut an input alike.

    Args:
        labels: token ids of every label; empty for generation.
    """
    return max(map(len, labels)) if labels else spec.evaluation.max_new_tokens


def input_limit(base: BaseModel, prompt_length: int, answer_length: int, max_tokens: int | None) -> int:
    """How many input tokens fit beside prompt and answer, at most ``max_tokens``.

    Raises:
        InvalidInput: none.
    """
    limit = min(base.context or _MAX_CONTEXT, _MAX_CONTEXT) - prompt_length - (answer_length if base.kind == "causal" else 0)
    if limit < 1:
        raise InvalidInput(
            f"{prompt_length} prompt vectors and an answer of {answer_length} tokens fill the base's context of {base.context}",
            where="prompt.length",
            do="use a shorter prompt; 20 is usually enough",
        )
    return min(limit, max_tokens) if max_tokens else limit


def encode_inputs(base: BaseModel, texts: Sequence[str], limit: int) -> tuple[list[tuple[int, ...]], list[int]]:
    """Token ids with the tokenizer's own special tokens, cut to ``limit`` tokens; and the lengths before that."""
    if not texts:
        return [], []
    encoded = base.tokenizer(list(texts), add_special_tokens=True)["input_ids"]
    end = base.tokenizer.eos_token_id
    rows = []
    for ids in encoded:
        if base.kind == "causal" and len(ids) > 1 and ids[-1] == end:
            ids = ids[:-1]  # some causal tokenizers close every text; the answer must be able to follow
        ids = ids or [end or 0]  # an empty text: the answer must have something to follow
        rows.append(cut(base, tuple(ids), limit))
    return rows, [len(ids) for ids in encoded]


def cut(base: BaseModel, ids: tuple[int, ...], limit: int) -> tuple[int, ...]:
    """An input's first ``limit`` tokens; an encoder's closing token stays."""
    if len(ids) > limit and base.kind == "encoder_decoder" and ids[-1] == base.tokenizer.eos_token_id:
        return (*ids[: limit - 1], ids[-1])
    return ids[:limit]


def answer_ids(base: BaseModel, text: str, *, close: bool) -> tuple[int, ...]:
    """Token ids of an answer as it follows other text (so with its leading space where the tokenizer has one)."""
    tokenizer = base.tokenizer
    if base.kind == "encoder_decoder":
        ids = tokenizer(text_target=text, add_special_tokens=False)["input_ids"]
    else:
        # Tokenised behind a word and cut off again: right for byte-level BPE and for SentencePiece alike.
        anchor = tokenizer("a", add_special_tokens=False)["input_ids"]
        ids = tokenizer(f"a {text}", add_special_tokens=False)["input_ids"]
        if ids[: len(anchor)] != anchor:
            ids, anchor = tokenizer(f" {text}", add_special_tokens=False)["input_ids"], []
        ids = ids[len(anchor) :]
    if close and tokenizer.eos_token_id is not None:
        ids = [*ids, tokenizer.eos_token_id]
    return tuple(ids)


def frequent_ids(rows: Sequence[TokenizedRow]) -> list[int]:
    """Token ids of the inputs, most frequent first (ties by id, so that the order is stable)."""
    counts = Counter(i for row in rows for i in row.input_ids)
    return sorted(counts, key=lambda i: (-counts[i], i))
