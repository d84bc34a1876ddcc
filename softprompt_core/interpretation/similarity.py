"""How similar the vectors of two prompts are."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from softprompt_core.spec.frozen import Frozen


class Similarity(Frozen):
    """Cosines between the vectors of prompts A ``[P, H]`` and B ``[Q, H]``."""

    by_place: tuple[float, ...] | None
    """Vector i of A with vector i of B; None where the lengths differ."""
    best_match: tuple[float, ...]
    """Each vector of A with the vector of B that is most similar to it, wherever it stands."""


def similarity(a: Tensor, b: Tensor) -> Similarity | None:
    """Compare two prompts; None where their vectors differ in width."""
    if a.shape[1] != b.shape[1]:
        return None
    cosines = normalize(a.double(), dim=1) @ normalize(b.double(), dim=1).T
    by_place = cosines.diagonal().tolist() if len(a) == len(b) else None
    return Similarity(by_place=by_place, best_match=cosines.max(dim=1).values.tolist())
