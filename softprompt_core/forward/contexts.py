"""Keys and values of frozen inputs: computed once without gradients and kept within a byte budget, in memory or in a mapped file.

What stands before a suffix does not see it, and the model is frozen, so an input's keys and values never change: all epochs,
seeds, sweep points and prompts over the same inputs share them, and so do champion and candidate in evaluation.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from softprompt_core import settings
from softprompt_core.base_model import BaseModel
from softprompt_core.forward.head import Asked
from softprompt_core.forward.layout import batches, pack
from softprompt_core.forward.memory import Memory, run


class ContextCache:
    """Memories of a list of inputs. Rows beyond the budget are computed each time.

    Which rows are kept, and together with which others a kept row is computed, depends on the inputs alone and not on the order
    of requests. Rounding depends on the shape of a batch, so without this a resumed training would differ in the last bits.

    Args:
        budget: bytes. 0 keeps nothing.
        folder: where the mapped file is made, which then may be larger than memory; it is gone when the process ends.
    """

    def __init__(self, base: BaseModel, inputs: Sequence[tuple[int, ...]], budget: int, folder: Path | None = None) -> None:
        self.base, self.inputs = base, inputs
        self._budget, self._folder = budget, folder
        self._groups: list[list[int]] = []
        self._group_of: dict[int, int] = {}
        self._start: dict[int, int] = {}  # a kept row's first token in the stores
        self._stores: list[tuple[Tensor, Tensor]] | None = None  # per layer [tokens, heads, head]
        self._devices: list[torch.device] = []  # of each layer; a base may be spread over several
        self._computed: set[int] = set()  # groups
        self._planned = False

    def batch(self, rows: Sequence[int]) -> Memory:
        """Memory of these rows' inputs, padded on the left."""
        self._plan()
        for group in sorted({self._group_of[i] for i in rows if i in self._group_of} - self._computed):
            self._keep(group)
        beyond = [i for i in dict.fromkeys(rows) if i not in self._group_of]
        extra, starts = self._encode(beyond) if beyond else ([], {})
        if self._stores is None or not any(i in self._group_of for i in rows):
            sources, start = extra, starts
        elif not beyond:
            sources, start = self._stores, self._start
        else:
            sources, start = self._mixed(rows, extra, starts)
        return self._gathered(rows, sources, start)

    def _gathered(self, rows: Sequence[int], sources: Sequence[tuple[Tensor, Tensor]], start: dict[int, int]) -> Memory:
        width = max(len(self.inputs[i]) for i in rows)
        # A row's padding is its own first token: another's may not have been computed yet, and no mask tames a NaN.
        lengths = {i: len(self.inputs[i]) for i in rows}
        places = [[start[i]] * (width - lengths[i]) + list(range(start[i], start[i] + lengths[i])) for i in rows]
        index = torch.tensor(places, dtype=torch.long)
        mask = torch.tensor([[0] * (width - lengths[i]) + [1] * lengths[i] for i in rows])

        def gather(store: Tensor, device: torch.device) -> Tensor:
            flat = store.index_select(0, index.view(-1).to(store.device))
            return flat.view(*index.shape, *store.shape[1:]).transpose(1, 2).to(device)  # a mapped file is on the CPU

        layers = [(gather(k, device), gather(v, device)) for (k, v), device in zip(sources, self._devices, strict=True)]
        return Memory(layers, mask.to(self.base.device))

    def _mixed(
        self, rows: Sequence[int], extra: Sequence[tuple[Tensor, Tensor]], starts: dict[int, int]
    ) -> tuple[list[tuple[Tensor, Tensor]], dict[int, int]]:
        """Kept rows and freshly computed ones in one small store."""
        assert self._stores is not None
        kept = [i for i in dict.fromkeys(rows) if i in self._group_of]
        index = torch.tensor([t for i in kept for t in range(self._start[i], self._start[i] + len(self.inputs[i]))])
        start, place = {}, 0
        for i in kept:
            start[i] = place
            place += len(self.inputs[i])
        joined = [
            tuple(
                torch.cat([store.index_select(0, index.to(store.device)).to(new.device), new])
                for store, new in zip(old, fresh, strict=True)
            )
            for old, fresh in zip(self._stores, extra, strict=True)
        ]
        return [(k, v) for k, v in joined], start | {i: place + at for i, at in starts.items()}

    def _plan(self) -> None:
        """Groups of the rows to keep: the shortest first, until the budget is full."""
        if self._planned:
            return
        self._planned = True
        if self._budget <= 0 or not self.inputs:
            return
        order = sorted(range(len(self.inputs)), key=lambda i: (len(self.inputs[i]), i))
        sample, _ = self._encode(order[:1])
        per_token = sum(t.element_size() * t[0].numel() for pair in sample for t in pair)
        kept: list[int] = []
        total = 0
        for row in order:
            if (total + len(self.inputs[row])) * per_token > self._budget:
                break
            self._start[row] = total
            total += len(self.inputs[row])
            kept.append(row)
        self._groups = [[kept[g] for g in group] for group in batches([len(self.inputs[i]) for i in kept], tokens=4096, rows=128)]
        self._group_of = {i: g for g, group in enumerate(self._groups) for i in group}
        if kept:
            self._stores = [(self._store(k, total), self._store(v, total)) for k, v in sample]

    def _store(self, like: Tensor, tokens: int) -> Tensor:
        shape = (tokens, *like.shape[1:])
        if self._folder is None:
            return torch.empty(shape, dtype=like.dtype, device=like.device)
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix="contexts-", dir=self._folder)
        os.close(handle)
        count = tokens * like[0].numel()
        flat = torch.from_file(name, shared=True, size=count, dtype=like.dtype)
        os.unlink(name)  # the mapping keeps it; nothing stays behind, even after a kill
        return flat.view(shape)

    def _keep(self, group: int) -> None:
        assert self._stores is not None
        rows = self._groups[group]
        found, _ = self._encode(rows)
        # Rows of a group follow each other in the stores, in the same order.
        first = self._start[rows[0]]
        for kept, fresh in zip(self._stores, found, strict=True):
            for store, states in zip(kept, fresh, strict=True):
                store[first : first + len(states)] = states.to(store.device)
        self._computed.add(group)

    @torch.no_grad()
    def _encode(self, rows: Sequence[int]) -> tuple[list[tuple[Tensor, Tensor]], dict[int, int]]:
        """Keys and values of rows, per layer ``[tokens, heads, head]``, and where each row begins."""
        embedded, mask = pack(self.base, _none(self.base), [], [[self.inputs[i]] for i in rows])
        _, memory = run(
            self.base, Memory.empty(len(rows), self.base.device), embedded, mask, Asked.of(self.base, []), remember=True
        )
        self._devices = [k.device for k, _ in memory.layers]
        real, starts, place = mask.bool(), {}, 0
        for i in rows:
            starts[i] = place
            place += len(self.inputs[i])
        return [(k.transpose(1, 2)[real.to(k.device)], v.transpose(1, 2)[real.to(v.device)]) for k, v in memory.layers], starts


_shared: weakref.WeakValueDictionary[tuple[int, str, int, Path | None], ContextCache] = weakref.WeakValueDictionary()


def shared_contexts(base: BaseModel, inputs: Sequence[tuple[int, ...]], budget: int | None = None) -> ContextCache:
    """The context cache of these inputs on this base, shared by all who hold it at the same time.

    Budget and folder are the settings ``cache_bytes`` and ``cache_dir``, unless a budget is given.

    Raises:
        InvalidInput: a setting is wrong.
    """
    machine = settings.current()
    folder = machine.cache_dir
    size = machine.cache_bytes if budget is None else budget
    content = hashlib.sha256(repr(list(inputs)).encode()).hexdigest()
    key = (id(base), content, size, folder)
    found = _shared.get(key)
    if found is None or found.base is not base:
        found = _shared[key] = ContextCache(base, inputs, size, folder)
    return found


def _none(base: BaseModel) -> Tensor:
    return base.embed(torch.zeros(0, dtype=torch.long))
