"""Vocabulary tokens whose embeddings point in nearly the direction of a soft vector (Lester et al. 2021, section 7)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from softprompt_core.base_model.loading import BaseModel

_AT_ONCE = 16_384  # tokens; a vocabulary of 250k x 4096 in float32 would take 4 GB


@dataclass(frozen=True)
class NearToken:
    """One token of the vocabulary. ``text`` is as the tokenizer writes it, with its sign for a leading blank as a blank."""

    text: str
    id: int
    cosine: float


def nearest_tokens(base: BaseModel, weights: Tensor, count: int = 5) -> list[list[NearToken]]:
    """For each vector the ``count`` tokens with the highest cosine, the nearest first.

    Args:
        weights: ``[P, H]``, on the scale of embedded inputs.

    Raises:
        ValueError: the vectors are not as wide as the base's embeddings.
    """
    if weights.ndim != 2 or weights.shape[1] != base.hidden_size:
        raise ValueError(f"{list(weights.shape)} are no vectors of {base.hidden_size} numbers")
    vectors = normalize(weights.float().to(base.device), dim=1)
    size = min(len(base.tokenizer), base.embedding_rows)
    best = torch.full((len(vectors), 0), 0.0, device=base.device)
    ids = torch.empty((len(vectors), 0), dtype=torch.long, device=base.device)
    with torch.no_grad():
        for start in range(0, size, _AT_ONCE):
            tokens = torch.arange(start, min(size, start + _AT_ONCE), device=base.device)
            cosines = vectors @ normalize(base.embed(tokens).float(), dim=1).T
            best, ids = torch.cat([best, cosines], 1), torch.cat([ids, tokens.expand(len(vectors), -1)], 1)
            best, order = best.topk(min(count, best.shape[1]), dim=1)
            ids = ids.gather(1, order)
    return [
        [NearToken(_text(base, i), i, value) for i, value in zip(row_ids, row, strict=True)]
        for row_ids, row in zip(ids.tolist(), best.tolist(), strict=True)
    ]


def _text(base: BaseModel, token: int) -> str:
    text = str(base.tokenizer.decode([token]))
    # Parts of a character and control tokens decode to nothing that can be read.
    return text if text.strip() and "�" not in text else str(base.tokenizer.convert_ids_to_tokens(token))
