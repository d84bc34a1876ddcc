"""How far training moved the vectors from where they started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor
from torch.nn.functional import cosine_similarity


@dataclass(frozen=True)
class Drift:
    """One value a vector, ``[P]``."""

    cosine: tuple[float, ...]
    """Between the vector and its start: 1 is the same direction."""
    distance: tuple[float, ...]
    """Euclidean distance from the start, in units of the start's own length."""

    def to_json(self) -> dict[str, Any]:
        return {name: list(values) for name, values in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Drift:
        return cls(tuple(value["cosine"]), tuple(value["distance"]))


def drift(start: Tensor, weights: Tensor) -> Drift:
    """Compare a trained prompt with its start, both ``[P, H]``.

    Raises:
        ValueError: the shapes differ.
    """
    if start.shape != weights.shape:
        raise ValueError(f"a start of {list(start.shape)} does not belong to vectors of {list(weights.shape)}")
    before, after = start.detach().double().cpu(), weights.detach().double().cpu()
    moved = (after - before).norm(dim=1) / before.norm(dim=1).clamp_min(1e-12)
    return Drift(tuple(cosine_similarity(before, after, dim=1).tolist()), tuple(moved.tolist()))
