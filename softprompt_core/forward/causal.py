"""Fast paths of a causal model. Two facts make them exact:

* The prompt of a *prefix* sees only itself, so its keys and values are the same in every row: it runs once a batch.
* The input before a *suffix* does not see the prompt, so its keys and values never change: they are computed once, without
  gradients, and kept (``ContextCache``).

Columns of every batch: ``[memory | fresh]``. The memory is what stands in the key–value cache (prompt, or input), padded on the
left; fresh is what still runs through the model. Prompt and answer stand in the same columns for all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from softprompt_core.base_model import BaseModel
from softprompt_core.forward.layout import batches, pad_left, positions


@dataclass
class Memory:
    """Keys and values of the columns already run: per layer ``[B, heads, T, head]``, with the mask ``[B, T]``."""

    layers: list[tuple[Tensor, Tensor]]
    mask: Tensor

    @classmethod
    def empty(cls, rows: int, device: torch.device) -> Memory:
        return cls([], torch.zeros(rows, 0, dtype=torch.long, device=device))

    def expand(self, rows: int) -> Memory:
        """The same memory for ``rows`` rows, as views of the one row: nothing is copied here."""
        layers = [(k.expand(rows, -1, -1, -1), v.expand(rows, -1, -1, -1)) for k, v in self.layers]
        return Memory(layers, self.mask.expand(rows, -1))

    def repeat(self, times: int) -> Memory:
        """Every row ``times`` times in a row."""
        layers = [(k.repeat_interleave(times, 0), v.repeat_interleave(times, 0)) for k, v in self.layers]
        return Memory(layers, self.mask.repeat_interleave(times, 0))


def run(base: BaseModel, memory: Memory, embedded: Tensor, mask: Tensor, *, keep: int) -> tuple[Tensor, Memory]:
    """Run fresh columns after the memory.

    Args:
        embedded: ``[B, T, H]``.
        mask: ``[B, T]``, 1 = real.
        keep: logits of the last ``keep`` columns are computed.

    Returns:
        Logits ``[B, keep, V]``, and the memory of all columns.
    """
    from transformers import DynamicCache

    cache = DynamicCache()
    for index, (keys, values) in enumerate(memory.layers):
        cache.update(keys, values, index)
    whole = torch.cat([memory.mask, mask], dim=1)
    inputs: dict[str, Any] = dict(inputs_embeds=embedded, attention_mask=whole, past_key_values=cache, use_cache=True)
    if accepts(base, "position_ids"):  # BLOOM has none: it derives ALiBi from the mask
        inputs["position_ids"] = positions(whole)[:, memory.mask.shape[1] :]
    if accepts(base, "logits_to_keep"):
        logits = base.model(**inputs, logits_to_keep=keep).logits
    else:
        logits = base.model(**inputs).logits[:, -keep:]
    layers: list[Any] = cache.layers  # of an architecture without keys the check in `engine` finds out
    return logits, Memory([(layer.keys, layer.values) for layer in layers], whole)


def accepts(base: BaseModel, name: str) -> bool:
    import inspect

    return name in inspect.signature(base.model.forward).parameters


class ContextCache:
    """Keys and values of frozen inputs: computed once and kept within a byte budget; rows beyond it are computed each time.

    Which rows are kept, and together with which others a kept row is computed, depends on the inputs alone and not on the order
    of requests. Rounding depends on the shape of a batch, so without this a resumed training would differ in the last bits.
    """

    def __init__(self, base: BaseModel, inputs: Sequence[tuple[int, ...]], budget: int) -> None:
        self.base, self.inputs = base, inputs
        self._budget = budget
        self._groups: list[list[int]] | None = None
        self._group_of: dict[int, int] = {}
        self._kept: dict[int, Tensor] = {}  # row → [layers, 2, heads, T, head]

    def _plan(self) -> list[list[int]]:
        """Groups of the rows to keep: the shortest first, until the budget is full."""
        if self._groups is None:
            per_token = self._encode([min(range(len(self.inputs)), key=lambda i: len(self.inputs[i]))])
            row = next(iter(per_token.values()))
            bytes_per_token = row.numel() * row.element_size() // row.shape[3]
            kept, total = [], 0
            for index in sorted(range(len(self.inputs)), key=lambda i: (len(self.inputs[i]), i)):
                total += len(self.inputs[index]) * bytes_per_token
                if total > self._budget:
                    break
                kept.append(index)
            grouped = batches([len(self.inputs[i]) for i in kept], tokens=4096, rows=128)
            self._groups = [[kept[g] for g in group] for group in grouped]
            self._group_of = {i: g for g, group in enumerate(self._groups) for i in group}
        return self._groups

    def batch(self, indices: Sequence[int]) -> Memory:
        """Memory of these rows' inputs, padded on the left."""
        groups = self._plan()
        for group in sorted({self._group_of[i] for i in indices if i in self._group_of and i not in self._kept}):
            self._kept |= self._encode(groups[group])
        beyond = [i for i in indices if i not in self._group_of]
        fresh = self._encode(beyond) if beyond else {}
        rows = [self._kept[i] if i in self._kept else fresh[i] for i in indices]
        width = max(row.shape[3] for row in rows)
        stacked = rows[0].new_zeros(len(rows), *rows[0].shape[:3], width, rows[0].shape[4])
        mask = torch.zeros(len(rows), width, dtype=torch.long, device=self.base.device)
        for place, row in enumerate(rows):
            stacked[place, ..., width - row.shape[3] :, :] = row
            mask[place, width - row.shape[3] :] = 1
        return Memory([(stacked[:, layer, 0], stacked[:, layer, 1]) for layer in range(stacked.shape[1])], mask)

    @torch.no_grad()
    def _encode(self, indices: Sequence[int]) -> dict[int, Tensor]:
        ids, mask = pad_left([self.inputs[i] for i in indices])
        ids, mask = ids.to(self.base.device), mask.to(self.base.device)
        _, memory = run(self.base, Memory.empty(len(indices), self.base.device), self.base.embed(ids), mask, keep=1)
        found = {}
        for place, index in enumerate(indices):
            length = len(self.inputs[index])
            found[index] = torch.stack([torch.stack([k[place, :, -length:], v[place, :, -length:]]) for k, v in memory.layers])
        return found
