"""Rows of different lengths in one batch: padding, positions, and batches of similar length."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pad_left(rows: Sequence[Sequence[int]], pad: int = 0) -> tuple[Tensor, Tensor]:
    """Ids ``[B, T]`` and mask ``[B, T]`` (1 = real), padding on the left: every row ends in the last column.

    Contexts are padded on the left so that prompt and answer stand in the same columns for all rows, and logits are needed for
    those columns only.
    """
    width = max((len(row) for row in rows), default=0)
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows], dtype=torch.long).view(len(rows), width)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], dtype=torch.long).view(len(rows), width)
    return ids, mask


def pad_right(rows: Sequence[Sequence[int]], pad: int = 0) -> tuple[Tensor, Tensor]:
    """Ids ``[B, T]`` and mask ``[B, T]``, padding on the right."""
    ids, mask = pad_left([list(reversed(row)) for row in rows], pad)
    return ids.flip(1), mask.flip(1)


def positions(mask: Tensor) -> Tensor:
    """Position of every token ``[B, T]`` counted over real tokens only, so that padding never shifts a text."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def batches(lengths: Sequence[int], *, tokens: int, rows: int) -> list[list[int]]:
    """Indices grouped by similar length: at most ``rows`` rows and ``tokens`` padded tokens a batch. Order is stable."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    groups: list[list[int]] = []
    for index in order:
        full = groups and (len(groups[-1]) == rows or (len(groups[-1]) + 1) * max(lengths[index], 1) > tokens)
        if not groups or full:
            groups.append([])
        groups[-1].append(index)
    return groups
