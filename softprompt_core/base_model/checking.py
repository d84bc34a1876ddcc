"""Whether a loaded model is what this library takes it for: it is run on a few tokens before anything is trained on it.

A soft prompt takes the place of token embeddings, and training reads what the model predicts at each position of an answer. Both
need that a model answers its own embeddings as it answers token ids, and that no position sees what stands behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from softprompt_core.base_model.model import BaseModel
from softprompt_core.errors import InvalidInput, first_line

REFUSALS = (RuntimeError, TypeError, ValueError, AttributeError, LookupError)
"""What a model library's code raises where an architecture cannot do what is asked; anything else is a bug of ours."""
_TOKENS = 24
_HALF = 5e-2  # relative difference that half precision brings
_KNOWN = 1000  # tokens to choose from


def checked(base: BaseModel, where: str) -> BaseModel:
    """The base, if it can carry soft prompts; its embeddings scaled where the model scales them outside of the embedding.

    Args:
        where: names the base in messages.

    Raises:
        InvalidInput: later tokens change earlier answers, embeddings are answered otherwise than tokens, or the model gives NaN
            or cannot be run at all.
    """
    do = "use a causal or encoder–decoder language model"
    try:
        ids = _row(base)
        kept = len(ids) * 2 // 3  # what stands behind these is exchanged, and then left out
        own, other = _logits(base, [ids, [*ids[:kept], *ids[:1] * (len(ids) - kept)]])
        (alone,) = _logits(base, [ids[:kept]], reading=ids)
        for with_others_behind in (other[:kept], alone):
            refuse_leak(base, own[:kept], with_others_behind, where)
        scaled = {scale: replace(base, embedding_scale=scale) for scale in _scales(base)}
        differences = {
            # The second row's vectors are no token's, as a soft prompt's: Gemma 4 looks its tokens up by their embeddings.
            scale: relative_difference(_logits(tried, [ids, ids], factors=(1, 1.01))[0], own)
            for scale, tried in scaled.items()
        }
    except REFUSALS as error:
        problem = f"the model cannot be run on tokens or vectors ({type(error).__name__}: {first_line(error)})"
        raise InvalidInput(problem, where=where, do=do) from None
    scale = min(differences, key=lambda scale: differences[scale])
    if not differences[scale] <= tolerance(base):
        raise InvalidInput(
            f"the model does not answer token embeddings as it answers their tokens ({differences[scale]:.1%} apart): it takes "
            "more from token ids than the embedding, and a soft prompt cannot stand for that",
            where=where,
            do=do,
        )
    return base if scale == 1 else replace(base, embedding_scale=scale)


def refuse_leak(base: BaseModel, logits: Tensor, with_others_behind: Tensor, where: str) -> None:
    """Raises InvalidInput where predictions change with the tokens behind them, or are no numbers.

    Args:
        logits: ``[…, V]``, and the same positions once more ``with_others_behind``.
    """
    if not bool(torch.isfinite(logits).all()):
        raise InvalidInput("the model's predictions are not finite numbers", where=where, do="try base_model.dtype: float32")
    difference = relative_difference(with_others_behind, logits)
    # Weights in 8 bits round with all tokens of a batch in view.
    allowed = _HALF if getattr(base.model, "is_quantized", False) else tolerance(base)
    if not difference <= allowed:
        raise InvalidInput(
            f"later tokens change what the model predicts before them (by {difference:.1%}): in training it would see the answer "
            "that it is to give",
            where=where,
            do="use a model that was made for writing text; BERT and its kin read in both directions",
        )


def tolerance(base: BaseModel) -> float:
    """How far apart, relative to the largest, two computations of the same logits may be. Half precision rounds."""
    return 1e-3 if base.dtype == torch.float32 else _HALF


def relative_difference(logits: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of the largest expected value; NaN where either is."""
    return float((logits - expected).abs().max() / expected.abs().max().clamp(min=1e-6))


def ordinary_ids(base: BaseModel, count: int) -> list[int]:
    """``count`` ids of tokens that can stand in a text."""
    control = {*base.vocabulary.control, base.vocabulary.unknown}
    known = [i for i in range(min(base.embedding_rows, len(base.tokenizer), _KNOWN)) if i not in control] or [0]
    return [known[(7 * n + 5) % len(known)] for n in range(count)]


def _row(base: BaseModel) -> list[int]:
    # Not longer than the first change of rotary frequencies, which is no leak.
    shortest = min(_TOKENS, base.context or _TOKENS, base.answer_context or _TOKENS, *base.switches)
    return ordinary_ids(base, max(shortest, 3))


def _logits(
    base: BaseModel, rows: Sequence[Sequence[int]], *, factors: Sequence[float] = (), reading: Sequence[int] | None = None
) -> Tensor:
    """Logits float32 ``[B, T, V]`` of rows as the model itself would be called; of an encoder–decoder model those of its decoder
    after ``rows``, while the encoder reads ``reading`` (None: the first of them).

    Args:
        factors: one a row; embeddings multiplied by them are read in place of token ids.
    """
    ids = torch.tensor(rows, device=base.device)
    read = ids if base.kind == "causal" else torch.tensor([reading or rows[0]], device=base.device).expand(len(ids), -1)
    inputs: dict[str, Any] = {"input_ids": read}
    if factors:
        inputs = {"inputs_embeds": base.embed(read) * torch.tensor(factors, device=base.device, dtype=base.dtype)[:, None, None]}
    if base.kind == "encoder_decoder":
        inputs["decoder_input_ids"] = ids
    with torch.no_grad():
        logits: Tensor = base.model(**inputs, use_cache=False).logits
    return logits.float()


def _scales(base: BaseModel) -> list[float]:
    """Factors by which the model may multiply its embeddings: none, or what Pegasus and Marian keep outside of the embedding."""
    named = (getattr(module, "embed_scale", None) for module in base.model.modules())
    return [1.0, *dict.fromkeys(float(scale) for scale in named if isinstance(scale, (int, float)) and scale != 1)]
