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

MAX_CONTEXT = 4096  # tokens; some bases claim far more than any task needs


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
        InvalidInput: none, or the answer is longer than a decoder of its own.
    """
    room = min(base.context or MAX_CONTEXT, MAX_CONTEXT)
    beside = answer_length if base.kind == "causal" else 0
    if answer_length > (base.answer_context or answer_length) or beside + 1 >= room:
        raise InvalidInput(
            f"an answer of up to {answer_length} tokens does not fit the base's context of {base.answer_context or room}",
            where="evaluation.max_new_tokens",
            do="allow shorter answers (for classification: use shorter labels), or use a base with a longer context",
        )
    limit = room - prompt_length - beside
    if limit < 1:
        raise InvalidInput(
            f"{prompt_length} prompt vectors and an answer of {answer_length} tokens fill the base's context of {room}",
            where="prompt.length",
            do="use a shorter prompt; 20 is usually enough",
        )
    return min(limit, max_tokens) if max_tokens else limit


def encode_inputs(base: BaseModel, texts: Sequence[str], limit: int) -> tuple[list[tuple[int, ...]], list[int]]:
    """Token ids with the tokenizer's own control tokens around them, cut to ``limit`` tokens; and the lengths before that.

    Raises:
        InvalidInput: a text needs a token that the model lacks.
    """
    words = base.vocabulary
    framed = [(*words.before, *ids, *words.after) for ids in words.encode(texts)]
    rows = []
    for ids in framed:
        if base.kind == "causal" and len(ids) > 1 and ids[-1] == words.end:
            ids = ids[:-1]  # some causal tokenizers close every text; the answer must be able to follow
        ids = ids or (words.end or 0,)  # an empty text: the answer must have something to follow
        rows.append(cut(base, ids, limit))
    return rows, [len(ids) for ids in framed]


def cut(base: BaseModel, ids: tuple[int, ...], limit: int) -> tuple[int, ...]:
    """An input's first ``limit`` tokens; an encoder's closing token stays."""
    if len(ids) > limit and base.kind == "encoder_decoder" and ids[-1] == base.vocabulary.end:
        return (*ids[: limit - 1], ids[-1])
    return ids[:limit]


def answer_ids(base: BaseModel, text: str, *, close: bool) -> tuple[int, ...]:
    """Token ids of an answer as it follows other text (so with its leading space where the tokenizer has one).

    Args:
        close: whether the end follows; nothing does where the tokenizer has none.

    Raises:
        InvalidInput: the text, or the end, needs a token that the model lacks.
    """
    words = base.vocabulary
    if base.kind == "encoder_decoder":
        (ids,) = words.encode([text], answers=True)
    else:
        # Tokenised behind a word and cut off again: right for byte-level BPE and for SentencePiece alike.
        anchor, ids = words.encode(["a", f"a {text}"])
        if ids[: len(anchor)] != anchor:
            anchor, (ids,) = [], words.encode([f" {text}"])
        ids = ids[len(anchor) :]
    if close and words.end is not None:
        if words.end >= words.size:
            words.refuse_unembedded(words.end, "the end of an answer")
        ids = [*ids, words.end]
    return tuple(ids)


def frequent_ids(rows: Sequence[TokenizedRow]) -> list[int]:
    """Token ids of the inputs, most frequent first (ties by id, so that the order is stable)."""
    counts = Counter(i for row in rows for i in row.input_ids)
    return sorted(counts, key=lambda i: (-counts[i], i))
