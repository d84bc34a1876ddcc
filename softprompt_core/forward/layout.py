"""Rows of different lengths in one batch: padding, packing of prompts and tokens, positions, batches of similar length.

No padding ever stands between two real columns of a row: what is cached is padded on its left, what runs is padded on its
right. So distances between tokens are those of the row alone, whatever else the batch holds (relative positions, sliding
windows).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from softprompt_core.base_model.loading import BaseModel

ENOUGH = 512  # tokens of a batch; on a CPU larger ones are hardly faster

Piece = int | tuple[int, ...]  # the number of a prompt, or token ids


def pad_right(rows: Sequence[Sequence[int]], pad: int = 0) -> tuple[Tensor, Tensor]:
    """Ids ``[B, T]`` and mask ``[B, T]`` (1 = real), padding on the right."""
    width = max((len(row) for row in rows), default=0)
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], dtype=torch.long).view(len(rows), width)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], dtype=torch.long).view(len(rows), width)
    return ids, mask


def pack(base: BaseModel, vectors: Tensor, lengths: Sequence[int], rows: Sequence[Sequence[Piece]]) -> tuple[Tensor, Tensor]:
    """Rows of prompts and tokens, embedded: ``[B, T, H]``, padding on the right, and their mask ``[B, T]``.

    Args:
        vectors: ``[sum of lengths, H]``, all prompts one after another.
        lengths: of each prompt.
        rows: the pieces of each row, in order.
    """
    starts = [0, *itertools.accumulate(lengths)]
    tokens: list[int] = []
    indices: list[list[int]] = []  # into all vectors and then all tokens
    for row in rows:
        indices.append([])
        for piece in row:
            if isinstance(piece, int):
                indices[-1] += range(starts[piece], starts[piece + 1])
            else:
                indices[-1] += range(starts[-1] + len(tokens), starts[-1] + len(tokens) + len(piece))
                tokens += piece
    embedded = base.embed(torch.tensor(tokens, dtype=torch.long))
    # Padding is zeros and never another row's vector: a prompt that has become NaN must not reach its neighbours.
    flat = torch.cat([vectors, embedded, embedded.new_zeros(1, embedded.shape[-1])])
    index, mask = pad_right(indices, pad=len(flat) - 1)
    # Not `flat[index]`, whose gradient several threads add up in any order: equal seeds would not give equal prompts.
    return torch.nn.functional.embedding(index.to(base.device), flat), mask.to(base.device)


def positions(mask: Tensor) -> Tensor:
    """Position of every token ``[B, T]`` counted over real tokens only, so that padding never shifts a text."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def batches(lengths: Sequence[int], *, tokens: int, rows: int, enough: int = ENOUGH) -> list[list[int]]:
    """Indices grouped by similar length: at most ``rows`` rows and ``tokens`` padded tokens a batch. Order is stable.

    A batch of ``enough`` tokens ends where a row is a fifth longer than its first, since all rows would be padded to it.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    groups: list[list[int]] = []
    for index in order:
        if groups:
            count, first = len(groups[-1]), lengths[groups[-1][0]]
            full = count == rows or (count + 1) * max(lengths[index], 1) > tokens
            wasteful = lengths[index] > 1.2 * first + 2 and count * first >= enough
        if not groups or full or wasteful:
            groups.append([])
        groups[-1].append(index)
    return groups
