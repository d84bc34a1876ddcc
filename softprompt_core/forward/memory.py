"""Keys and values of columns that have already run, and how a frozen causal model goes on from them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from softprompt_core.base_model import BaseModel
from softprompt_core.forward.head import Asked, asked
from softprompt_core.forward.layout import positions


@dataclass(frozen=True)
class Memory:
    """Keys and values, per layer ``[B, heads, T, head]``, with their mask ``[B, T]``; padding stands on the left.

    A memory of one row may serve a batch: ``take`` then expands it without copying.
    """

    layers: list[tuple[Tensor, Tensor]]
    mask: Tensor

    @classmethod
    def empty(cls, rows: int, device: torch.device) -> Memory:
        return cls([], torch.zeros(rows, 0, dtype=torch.long, device=device))

    def take(self, rows: Sequence[int]) -> Memory:
        """The memory of these rows, in this order; a row may be taken several times."""
        if len(set(rows)) == 1:
            row, count = rows[0], len(rows)
            some = [
                (k[row : row + 1].expand(count, -1, -1, -1), v[row : row + 1].expand(count, -1, -1, -1)) for k, v in self.layers
            ]
            return Memory(some, self.mask[row : row + 1].expand(count, -1))
        index = torch.tensor(rows, device=self.mask.device)

        def some_of(states: Tensor) -> Tensor:
            # Its gradient is added up in order; that of `states[index]` is not.
            return states.index_select(0, index.to(states.device))

        return Memory([(some_of(k), some_of(v)) for k, v in self.layers], self.mask[index])

    def aligned(self) -> Memory:
        """The same columns with all padding on the left; columns that are padding in every row are dropped."""
        width = int(self.mask.sum(dim=1).max())
        cut = self.mask.shape[1] - width
        # A stable sort moves padding to the left and keeps the order of the rest.
        sorted_mask, order = self.mask.sort(dim=1, stable=True)
        if torch.equal(sorted_mask, self.mask):
            return Memory([(k[:, :, cut:], v[:, :, cut:]) for k, v in self.layers], self.mask[:, cut:])
        order = order[:, cut:]

        def moved(states: Tensor) -> Tensor:
            index = order.to(states.device)[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3])
            return states.gather(2, index)

        return Memory([(moved(k), moved(v)) for k, v in self.layers], sorted_mask[:, cut:])


class _Layer(DynamicLayer):
    """A cache layer that goes on from what it remembers. Running it again changes nothing, as gradient checkpointing needs."""

    def __init__(self, keys: Tensor | None = None, values: Tensor | None = None, **_: Any) -> None:
        super().__init__()
        self.whole: tuple[Tensor, Tensor] | None = None
        if keys is not None and values is not None:
            self.keys, self.values = keys, values
            self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if self.keys is None or self.values is None:
            self.whole = key_states, value_states
        else:
            self.whole = torch.cat([self.keys, key_states], dim=-2), torch.cat([self.values, value_states], dim=-2)
        return self.whole


def run(
    base: BaseModel, memory: Memory, embedded: Tensor, mask: Tensor, what: Asked, *, remember: bool = False
) -> tuple[Tensor, Memory]:
    """Run columns of a causal model after a memory.

    Args:
        embedded: ``[B, T, H]``, padding on the right.
        mask: ``[B, T]``, 1 = real.
        what: which logits; columns are counted from the first of ``embedded``.
        remember: whether the memory of all columns is wanted.

    Returns:
        Logits float32 ``[N, V or L]``, and the memory of all columns (empty unless wanted).
    """
    cache = Cache(layers=[_Layer(k, v) for k, v in memory.layers]) if memory.layers else Cache(layer_class_to_replicate=_Layer)
    whole = torch.cat([memory.mask, mask], dim=1)
    inputs: dict[str, Any] = dict(inputs_embeds=embedded, attention_mask=whole, past_key_values=cache, use_cache=True)
    if _takes_positions(base):  # BLOOM has none: it derives ALiBi from the mask
        inputs["position_ids"] = positions(whole)[:, memory.mask.shape[1] :]
    with asked(what):
        logits = base.model(**inputs).logits[0].float()
    if not remember:
        return logits, Memory.empty(len(mask), mask.device)
    layers: list[Any] = cache.layers
    return logits, Memory([layer.whole for layer in layers], whole)


def _takes_positions(base: BaseModel) -> bool:
    return "position_ids" in inspect.signature(type(base.model).forward).parameters
