"""Keys and values of frozen inputs: computed once without gradients and kept within a byte budget, in memory or in a mapped file.

What stands before a suffix does not see it, and the model is frozen, so an input's keys and values never change: all epochs,
seeds, sweep points and prompts over the same inputs share them, and so do champion and candidate in evaluation.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from softprompt_core import settings
from softprompt_core.base_model.loading import BaseModel
from softprompt_core.forward.kv_cache import KVCache, run
from softprompt_core.forward.layout import batches, pack
from softprompt_core.forward.logit_selection import LogitSelection

_Layers = Sequence[tuple[Tensor, Tensor]]  # keys and values without padding, per layer [tokens, heads, head]


class InputCache:
    """Keys and values of a list of inputs. Inputs beyond the budget are computed each time.

    Which inputs are kept, and together with which others a kept one is computed, depends on the inputs alone and not on the order
    of requests. Rounding depends on the shape of a batch, so without this a resumed training would differ in the last bits.

    Args:
        budget: bytes. 0 keeps nothing.
        folder: where the mapped file is made, which then may be larger than memory; it is gone when the process ends.
    """

    def __init__(self, base: BaseModel, inputs: Sequence[tuple[int, ...]], budget: int, folder: Path | None = None) -> None:
        self.base, self.inputs = base, inputs
        self._budget, self._folder = budget, folder
        self._planned = False
        self._groups: list[list[int]] = []  # kept inputs that are computed together
        self._group_of: dict[int, int] = {}
        self._computed: set[int] = set()  # groups
        self._kept: _Layers = []
        self._kept_starts: dict[int, int] = {}  # a kept input's first token in `_kept`
        self._devices: list[torch.device] = []  # of each layer; a base may be spread over several

    def batch(self, rows: Sequence[int]) -> KVCache:
        """Keys and values of these inputs, one row each."""
        self._plan()
        for group in sorted({self._group_of[i] for i in rows if i in self._group_of} - self._computed):
            self._compute_group(group)
        distinct = dict.fromkeys(rows)
        kept, beyond = [i for i in distinct if i in self._group_of], [i for i in distinct if i not in self._group_of]
        if not beyond:
            return self._gather(rows, self._kept, self._kept_starts)
        layers, starts = self._encode(beyond)
        if kept:
            layers, starts = self._join(kept, layers, starts)
        return self._gather(rows, layers, starts)

    def _gather(self, rows: Sequence[int], layers: _Layers, starts: Mapping[int, int]) -> KVCache:
        lengths = [len(self.inputs[i]) for i in rows]
        width = max(lengths)
        # A row's padding is its own first token: another's may not have been computed yet, and masking does not remove a NaN.
        index = torch.tensor(
            [[starts[i]] * (width - n) + list(range(starts[i], starts[i] + n)) for i, n in zip(rows, lengths, strict=True)]
        )
        mask = torch.tensor([[0] * (width - n) + [1] * n for n in lengths])

        def gather(states: Tensor, device: torch.device) -> Tensor:
            flat = states.index_select(0, index.view(-1).to(states.device))
            return flat.view(*index.shape, *states.shape[1:]).transpose(1, 2).to(device)  # a mapped file is on the CPU

        batch = [(gather(k, device), gather(v, device)) for (k, v), device in zip(layers, self._devices, strict=True)]
        return KVCache(batch, mask.to(self.base.device))

    def _join(self, kept: Sequence[int], layers: _Layers, starts: Mapping[int, int]) -> tuple[_Layers, dict[int, int]]:
        """Kept inputs and then the freshly computed ones."""
        index = torch.tensor([t for i in kept for t in range(self._kept_starts[i], self._kept_starts[i] + len(self.inputs[i]))])

        def joined(old: Tensor, new: Tensor) -> Tensor:
            return torch.cat([old.index_select(0, index.to(old.device)).to(new.device), new])

        both = [(joined(old[0], new[0]), joined(old[1], new[1])) for old, new in zip(self._kept, layers, strict=True)]
        return both, self._starts(kept) | {i: len(index) + start for i, start in starts.items()}

    def _starts(self, rows: Sequence[int]) -> dict[int, int]:
        """Each input's first token where these inputs follow each other."""
        starts, total = {}, 0
        for i in rows:
            starts[i] = total
            total += len(self.inputs[i])
        return starts

    def _plan(self) -> None:
        """Group the inputs to keep: the shortest first, until the budget is full."""
        if self._planned:
            return
        self._planned = True
        if self._budget <= 0 or not self.inputs:
            return
        order = sorted(range(len(self.inputs)), key=lambda i: (len(self.inputs[i]), i))
        sample, _ = self._encode(order[:1])
        per_token = sum(states.element_size() * states[0].numel() for layer in sample for states in layer)
        kept: list[int] = []
        total = 0
        for row in order:
            if (total + len(self.inputs[row])) * per_token > self._budget:
                break
            total += len(self.inputs[row])
            kept.append(row)
        self._kept_starts = self._starts(kept)
        self._groups = [[kept[g] for g in group] for group in batches([len(self.inputs[i]) for i in kept], tokens=4096, rows=128)]
        self._group_of = {i: g for g, group in enumerate(self._groups) for i in group}
        if kept:
            self._kept = [(self._allocate(k, total), self._allocate(v, total)) for k, v in sample]

    def _allocate(self, like: Tensor, tokens: int) -> Tensor:
        shape = (tokens, *like.shape[1:])
        if self._folder is None:
            return torch.empty(shape, dtype=like.dtype, device=like.device)
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix="inputs-", dir=self._folder)
        os.close(handle)
        flat = torch.from_file(name, shared=True, size=tokens * like[0].numel(), dtype=like.dtype)
        os.unlink(name)  # the mapping keeps it; nothing stays behind, even after a kill
        return flat.view(shape)

    def _compute_group(self, group: int) -> None:
        rows = self._groups[group]
        computed, _ = self._encode(rows)
        first = self._kept_starts[rows[0]]  # a group's inputs follow each other in `_kept`, in the same order
        for kept_layer, layer in zip(self._kept, computed, strict=True):
            for kept, states in zip(kept_layer, layer, strict=True):
                kept[first : first + len(states)] = states.to(kept.device)
        self._computed.add(group)

    @torch.no_grad()
    def _encode(self, rows: Sequence[int]) -> tuple[_Layers, dict[int, int]]:
        """Keys and values of inputs that follow each other, and where each begins."""
        base = self.base
        no_prompts = base.embed(torch.zeros(0, dtype=torch.long))
        embedded, mask = pack(base, no_prompts, [], [[self.inputs[i]] for i in rows])
        nothing, no_logits = KVCache.empty(len(rows), base.device), LogitSelection.of(base, [])
        _, cache = run(base, nothing, embedded, mask, no_logits, return_cache=True)
        self._devices = [k.device for k, _ in cache.layers]

        def without_padding(states: Tensor) -> Tensor:
            return states.transpose(1, 2)[mask.bool().to(states.device)]

        return [(without_padding(k), without_padding(v)) for k, v in cache.layers], self._starts(rows)


_shared: weakref.WeakValueDictionary[tuple[int, str, int, Path | None], InputCache] = weakref.WeakValueDictionary()


def shared_input_cache(base: BaseModel, inputs: Sequence[tuple[int, ...]], budget: int | None = None) -> InputCache:
    """The cache of these inputs on this base, shared by all who hold it at the same time.

    Budget and folder are the settings ``cache_bytes`` and ``cache_dir``, unless a budget is given.

    Raises:
        InvalidInput: a setting is wrong.
    """
    machine = settings.current()
    size = machine.cache_bytes if budget is None else budget
    content = hashlib.sha256(repr(list(inputs)).encode()).hexdigest()
    key = (id(base), content, size, machine.cache_dir)
    cache = _shared.get(key)
    if cache is None or cache.base is not base:
        cache = _shared[key] = InputCache(base, inputs, size, machine.cache_dir)
    return cache
