"""Keys and values of columns that have already run, and how a frozen causal model continues from them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import Cache, DynamicLayer

from softprompt_core.base_model.loading import BaseModel
from softprompt_core.forward.layout import positions
from softprompt_core.forward.logit_selection import LogitSelection, select_logits


@dataclass(frozen=True)
class KVCache:
    """Keys and values, per layer ``[B, heads, T, head]``, with their mask ``[B, T]`` (1 = real); padding stands on the left."""

    layers: list[tuple[Tensor, Tensor]]
    mask: Tensor

    @classmethod
    def empty(cls, rows: int, device: torch.device) -> KVCache:
        """``rows`` rows without columns."""
        return cls([], torch.zeros(rows, 0, dtype=torch.long, device=device))

    @classmethod
    def stack(cls, caches: Sequence[KVCache]) -> KVCache:
        """Caches of one row each, not all of them empty, as one of B rows."""
        width = max(cache.mask.shape[1] for cache in caches)
        layers_of_any = next(cache.layers for cache in caches if cache.layers)

        def padded(cache: KVCache, layer: int, part: int) -> Tensor:
            states = cache.layers[layer][part] if cache.layers else layers_of_any[layer][part][:, :, :0]
            return pad(states, (0, 0, width - states.shape[2], 0))

        layers = [
            (torch.cat([padded(cache, n, 0) for cache in caches]), torch.cat([padded(cache, n, 1) for cache in caches]))
            for n in range(len(layers_of_any))
        ]
        return cls(layers, torch.cat([pad(cache.mask, (width - cache.mask.shape[1], 0)) for cache in caches]))

    def select(self, rows: Sequence[int]) -> KVCache:
        """The cache of these rows, in this order. A row may occur several times; one row alone is expanded without a copy."""
        if len(set(rows)) == 1:
            row, count = slice(rows[0], rows[0] + 1), len(rows)
            layers = [(k[row].expand(count, -1, -1, -1), v[row].expand(count, -1, -1, -1)) for k, v in self.layers]
            return KVCache(layers, self.mask[row].expand(count, -1))
        index = torch.tensor(rows, device=self.mask.device)

        def selected(states: Tensor) -> Tensor:
            # Its gradient is added up in order; that of `states[index]` is not.
            return states.index_select(0, index.to(states.device))

        return KVCache([(selected(k), selected(v)) for k, v in self.layers], self.mask[index])

    def left_padded(self) -> KVCache:
        """The same columns with all padding on the left; columns that are padding in every row are dropped."""
        cut = self.mask.shape[1] - int(self.mask.sum(dim=1).max())
        # A stable sort moves padding to the left and keeps the order of the rest.
        sorted_mask, order = self.mask.sort(dim=1, stable=True)
        if torch.equal(sorted_mask, self.mask):
            return KVCache([(k[:, :, cut:], v[:, :, cut:]) for k, v in self.layers], self.mask[:, cut:])
        order = order[:, cut:]

        def moved(states: Tensor) -> Tensor:
            index = order.to(states.device)[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3])
            return states.gather(2, index)

        return KVCache([(moved(k), moved(v)) for k, v in self.layers], sorted_mask[:, cut:])

    @property
    def tensors(self) -> list[Tensor]:
        """Keys and values of all layers, one after another."""
        return [states for layer in self.layers for states in layer]

    @property
    def size(self) -> int:
        """Bytes of keys and values."""
        return sum(states.numel() * states.element_size() for states in self.tensors)


class _Layer(DynamicLayer):
    """A cache layer whose first columns stay as they are: running it again changes nothing, as gradient checkpointing needs."""

    def __init__(self, keys: Tensor | None = None, values: Tensor | None = None, **_: Any) -> None:
        super().__init__()
        self.all_columns: tuple[Tensor, Tensor] | None = None
        if keys is not None and values is not None:
            self.keys, self.values = keys, values
            self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if self.keys is None or self.values is None:
            self.all_columns = key_states, value_states
        else:
            self.all_columns = torch.cat([self.keys, key_states], dim=-2), torch.cat([self.values, value_states], dim=-2)
        return self.all_columns


def run(
    base: BaseModel, past: KVCache, embedded: Tensor, mask: Tensor, selection: LogitSelection, *, return_cache: bool = False
) -> tuple[Tensor, KVCache]:
    """Run further columns of a causal model.

    Args:
        past: the columns before them.
        embedded: ``[B, T, H]``, padding on the right.
        mask: ``[B, T]``, 1 = real.
        selection: which logits; columns are counted from the first of ``embedded``.

    Returns:
        Logits float32 ``[N, V or L]``, and the cache of all columns (empty without ``return_cache``).
    """
    cache = Cache(layers=[_Layer(k, v) for k, v in past.layers]) if past.layers else Cache(layer_class_to_replicate=_Layer)
    whole = torch.cat([past.mask, mask], dim=1)
    inputs: dict[str, Any] = dict(inputs_embeds=embedded, attention_mask=whole, past_key_values=cache, use_cache=True)
    if "position_ids" in inspect.signature(type(base.model).forward).parameters:  # BLOOM derives ALiBi from the mask
        inputs["position_ids"] = positions(whole)[:, past.mask.shape[1] :]
    with select_logits(selection):
        logits = base.model(**inputs).logits[0].float()
    if not return_cache:
        return logits, KVCache.empty(len(mask), mask.device)
    layers: list[Any] = cache.layers
    if not layers or any(layer.all_columns is None for layer in layers):
        raise TypeError("the model keeps no keys and values")  # it has another kind of memory, or none
    return logits, KVCache([layer.all_columns for layer in layers], whole)
