"""How far training moved the vectors from where they started."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cosine_similarity

from softprompt_core.spec.frozen import Frozen


class Displacement(Frozen):
    """One value a vector, ``[P]``."""

    cosine: tuple[float, ...]
    """Between the vector and its start: 1 is the same direction."""
    distance: tuple[float, ...]
    """Euclidean distance from the start, in units of the start's own length."""


def displacement(start: Tensor, weights: Tensor) -> Displacement:
    """Compare a trained prompt with its start, both ``[P, H]``.

    Raises:
        ValueError: the shapes differ.
    """
    if start.shape != weights.shape:
        raise ValueError(f"a start of {list(start.shape)} does not belong to vectors of {list(weights.shape)}")
    before, after = start.detach().double().cpu(), weights.detach().double().cpu()
    distance = (after - before).norm(dim=1) / before.norm(dim=1).clamp_min(1e-12)
    return Displacement(cosine=cosine_similarity(before, after, dim=1).tolist(), distance=distance.tolist())
