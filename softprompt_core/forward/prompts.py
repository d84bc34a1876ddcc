"""Prompts prepared to meet inputs: one or many, of any lengths, on one base."""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from softprompt_core.base_model.loading import BaseModel
from softprompt_core.forward.kv_cache import KVCache, run
from softprompt_core.forward.layout import ENOUGH, batches, pack
from softprompt_core.forward.logit_selection import LogitSelection

KEPT_COLUMNS = 128  # vectors of all prompts of a step whose graph is kept through it
PROMPT_CACHE_BYTES = 64_000_000  # keys and values of prompts in use, a base; 20 vectors take some hundred kB on a small one


@dataclass(frozen=True)
class Prompts:
    """K prompts on one base.

    Attributes:
        lengths: vectors of each.
        vectors: all of them one after another, ``[sum of lengths, H]``, in the base's number format.
        cache: for a prefix on a causal model the prompts' keys and values, one row a prompt; else None.
    """

    lengths: tuple[int, ...]
    vectors: Tensor
    cache: KVCache | None

    @classmethod
    def prepare(cls, base: BaseModel, position: str, prompts: Sequence[Tensor | None], *, with_cache: bool = True) -> Prompts:
        """Prepare prompts ``[P, H]``; gradients flow to them. None stands for the bare model: a prompt without vectors.

        Without gradients the keys and values of a prefix are computed once per prompt and base, and kept.

        Args:
            with_cache: whether a prefix's keys and values are needed; the plain path takes its vectors.
        """
        each = [base.embed(torch.zeros(0, dtype=torch.long)) if p is None else p.to(base.device, base.dtype) for p in prompts]
        vectors, lengths = torch.cat(each), tuple(map(len, each))
        if base.kind != "causal" or position != "prefix" or not len(vectors) or not with_cache:
            return cls(lengths, vectors, None)
        if torch.is_grad_enabled() and vectors.requires_grad:
            return cls(lengths, vectors, _compute(base, vectors, lengths))
        return cls(lengths, vectors, _kept_caches.setdefault(base, _KeptCaches()).get(base, each))

    def columns(self, k: int) -> int:
        """How many columns prompt ``k`` adds to those that run for a row: none where its keys and values are cached."""
        return self.lengths[k] if self.cache is None else 0

    def split(self) -> tuple[Prompts, Callable[[], None]]:
        """The same prompts detached from their graph, and a function that carries the gradients they gathered back through it.

        So a step may run in several parts, and the prompts' own part of the model runs, forward and backward, once.
        """
        ends = self.cache.tensors if self.cache else [self.vectors]
        if not any(end.requires_grad for end in ends):
            return self, lambda: None
        detached, leaves = self._detached()
        return detached, lambda: _backward(ends, [leaf.grad for leaf in leaves])

    def _detached(self) -> tuple[Prompts, list[Tensor]]:
        """These prompts without a graph, and the tensors at which gradients now end."""
        if self.cache is None:
            vectors = self.vectors.detach().requires_grad_()
            return Prompts(self.lengths, vectors, None), [vectors]
        layers = [(k.detach().requires_grad_(), v.detach().requires_grad_()) for k, v in self.cache.layers]
        cache = KVCache(layers, self.cache.mask)
        return Prompts(self.lengths, self.vectors.detach(), cache), cache.tensors


def prepare_step(
    base: BaseModel, position: str, prompts: Sequence[Tensor], *, with_cache: bool = True
) -> tuple[Prompts, Callable[[], None]]:
    """Prompts prepared for one training step that may run in several parts, and a function that in the end carries the gradients
    back to them.

    The graph of a few prompts is kept through the step. That of many would cost more memory than the rows do, so it is made anew
    when the gradients are carried, for some prompts at a time: their forward pass, a small part of a step, runs twice.
    """
    lengths = [len(prompt) for prompt in prompts]
    if len(prompts) == 1 or sum(lengths) <= KEPT_COLUMNS or position != "prefix" or base.kind != "causal" or not with_cache:
        return Prompts.prepare(base, position, prompts, with_cache=with_cache).split()
    with torch.no_grad():
        vectors = torch.cat([prompt.to(base.device, base.dtype) for prompt in prompts])
        detached, leaves = Prompts(tuple(lengths), vectors, _compute(base, vectors, lengths))._detached()

    def carry_gradients() -> None:
        for group in batches(lengths, tokens=ENOUGH, rows=len(prompts)):
            part = Prompts.prepare(base, position, [prompts[k] for k in group])
            assert part.cache is not None
            ends = part.cache.tensors
            gradients = [
                None if leaf.grad is None else leaf.grad[group, :, -end.shape[2] :]
                for end, leaf in zip(ends, leaves, strict=True)
            ]
            _backward(ends, gradients)

    return detached, carry_gradients


def _backward(ends: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    pairs = [(end, gradient) for end, gradient in zip(ends, gradients, strict=True) if gradient is not None]
    torch.autograd.backward([end for end, _ in pairs], [gradient for _, gradient in pairs])


def _compute(base: BaseModel, vectors: Tensor, lengths: Sequence[int]) -> KVCache:
    """Keys and values of prompts, one row a prompt."""
    embedded, mask = pack(base, vectors, lengths, [[k] for k in range(len(lengths))])
    no_logits = LogitSelection.of(base, [])
    return run(base, KVCache.empty(len(lengths), base.device), embedded, mask, no_logits, return_cache=True)[1].left_padded()


class _KeptCaches:
    """Caches of a base's prompts by content, the least recently used dropped beyond ``PROMPT_CACHE_BYTES``."""

    def __init__(self) -> None:
        self._caches: OrderedDict[str, KVCache] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def get(self, base: BaseModel, prompts: Sequence[Tensor]) -> KVCache:
        """One row a prompt; not all prompts are without vectors."""
        caches = [self._get(base, prompt) if len(prompt) else KVCache.empty(1, base.device) for prompt in prompts]
        return caches[0] if len(caches) == 1 else KVCache.stack(caches)

    def _get(self, base: BaseModel, prompt: Tensor) -> KVCache:
        content = hashlib.sha256(prompt.detach().float().cpu().contiguous().numpy().tobytes()).hexdigest()
        with self._lock:
            if content in self._caches:
                self._caches.move_to_end(content)
                return self._caches[content]
        with torch.no_grad():
            cache = _compute(base, prompt.detach(), [len(prompt)])
        with self._lock:
            if content not in self._caches:
                self._bytes += cache.size
            self._caches[content] = cache
            while self._bytes > PROMPT_CACHE_BYTES and len(self._caches) > 1:
                self._bytes -= self._caches.popitem(last=False)[1].size
        return cache


_kept_caches: weakref.WeakKeyDictionary[BaseModel, _KeptCaches] = weakref.WeakKeyDictionary()
