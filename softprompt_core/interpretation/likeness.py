"""How alike the vectors of two prompts are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor
from torch.nn.functional import normalize


@dataclass(frozen=True)
class Likeness:
    """Cosines between the vectors of prompts A ``[P, H]`` and B ``[Q, H]``."""

    by_place: tuple[float, ...] | None
    """Vector i of A with vector i of B; None where the lengths differ."""
    best_match: tuple[float, ...]
    """Each vector of A with the vector of B that is most like it: order plays no part."""

    def to_json(self) -> dict[str, Any]:
        found: Mapping[str, Any] = asdict(self)
        return {name: None if values is None else list(values) for name, values in found.items()}


def likeness(a: Tensor, b: Tensor) -> Likeness | None:
    """Compare two prompts; None where their vectors live in spaces of different width."""
    if a.shape[1] != b.shape[1]:
        return None
    cosines = normalize(a.double(), dim=1) @ normalize(b.double(), dim=1).T
    by_place = tuple(cosines.diagonal().tolist()) if len(a) == len(b) else None
    return Likeness(by_place, tuple(cosines.max(dim=1).values.tolist()))
