"""One training on several processes (``torchrun``): each takes its share of every batch, and gradients are added up.

The processes draw the same batches and take the same steps, so every one of them holds the same prompt at every step; the first
one writes. Without a process group all of this does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

_T = TypeVar("_T")


def size() -> int:
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def is_first() -> bool:
    return size() == 1 or torch.distributed.get_rank() == 0


def share(items: Sequence[_T]) -> Sequence[_T]:
    """This process's items: every ``size()``-th, so that rows sorted by length are shared out evenly."""
    return items if size() == 1 else items[torch.distributed.get_rank() :: size()]


def add_up(values: Sequence[Tensor]) -> None:
    """Replace each tensor, in place, by its sum over the processes."""
    if size() > 1 and values:
        flat = torch.cat([value.reshape(-1).to(_device(), torch.float64) for value in values])
        torch.distributed.all_reduce(flat)
        for value, summed in zip(values, flat.split([value.numel() for value in values]), strict=True):
            value.copy_(summed.view_as(value))


def _device() -> str:
    return "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
