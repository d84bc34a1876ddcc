"""What is kept of the training inputs, so that later inputs can be compared with them: lengths and coarse vectors, no texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from softprompt_core.base_model import BaseModel
from softprompt_core.data import spread
from softprompt_core.encoding import encode_inputs

_ROWS = 500
_DIMENSIONS = 32
_LONGEST = 512  # tokens of an input that are averaged
_SEED = 20210418


@dataclass(frozen=True)
class InputProfile:
    """A sample of inputs, at most 500 rows.

    Attributes:
        words: words of each input, ``[rows]``.
        vectors: mean of the base's token embeddings, projected to 32 numbers, ``[rows, 32]``.
        base: fingerprint of the base; vectors of different bases cannot be compared.
    """

    words: tuple[int, ...]
    vectors: tuple[tuple[float, ...], ...]
    base: str

    def to_json(self) -> dict[str, Any]:
        return {"base": self.base, "words": list(self.words), "vectors": [list(row) for row in self.vectors]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> InputProfile:
        """The inverse of ``to_json``. Raises KeyError or TypeError for anything else."""
        return cls(tuple(value["words"]), tuple(tuple(row) for row in value["vectors"]), value["base"])


def make_profile(base: BaseModel, texts: Sequence[str]) -> InputProfile:
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
    return InputProfile(tuple(len(text.split()) for text in sample), tuple(vectors), base.identity.fingerprint)
