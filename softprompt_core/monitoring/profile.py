"""What is kept of the training inputs, so that later inputs can be compared with them: lengths and coarse vectors, no texts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict

from softprompt_core.base_model import loading
from softprompt_core.base_model.tokens import encode_inputs
from softprompt_core.data import spread

_ROWS = 500
_DIMENSIONS = 32
_LONGEST = 512  # tokens of an input that are averaged
_SEED = 20210418


class InputProfile(BaseModel):
    """A sample of inputs, at most 500 rows."""

    model_config = ConfigDict(frozen=True)

    base: str
    """Fingerprint of the base; vectors of different bases cannot be compared."""
    words: tuple[int, ...]
    """Words of each input, ``[rows]``."""
    vectors: tuple[tuple[float, ...], ...]
    """Mean of the base's token embeddings, projected to 32 numbers, ``[rows, 32]``."""


def make_profile(base: loading.BaseModel, texts: Sequence[str]) -> InputProfile:
    """Profile of evenly spaced inputs.

    Mean embeddings tell topics and languages apart without running the model; a random projection keeps their distances roughly
    (Johnson & Lindenstrauss, 1984) in a few kilobytes.
    """
    sample = spread(list(texts), _ROWS) if texts else []
    ids, _ = encode_inputs(base, sample, _LONGEST)
    vectors: list[tuple[float, ...]] = []
    generator = torch.Generator().manual_seed(_SEED)
    projection = torch.randn(base.hidden_size, _DIMENSIONS, generator=generator) / base.embedding_rms / base.hidden_size**0.5
    with torch.no_grad():
        for row in ids:
            mean = base.embed(torch.tensor(row)).float().cpu().mean(dim=0)
            vectors.append(tuple(round(number, 4) for number in (mean @ projection).tolist()))
    words = tuple(len(text.split()) for text in sample)
    return InputProfile(base=base.identity.fingerprint, words=words, vectors=tuple(vectors))
