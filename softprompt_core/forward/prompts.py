"""Prompts made ready to meet inputs: one or many, of any lengths, on one base."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from softprompt_core.base_model import BaseModel
from softprompt_core.forward.head import Asked
from softprompt_core.forward.layout import ENOUGH, batches, pack
from softprompt_core.forward.memory import Memory, run

KEPT_COLUMNS = 128  # vectors of all prompts of a step whose graph is kept through it
PROMPT_MEMORY_BYTES = 64_000_000  # keys and values of prompts in use; 20 vectors cost some hundred kB on a small base


@dataclass(frozen=True)
class Prompts:
    """K prompts. ``vectors``: all of them one after another, ``[sum of lengths, H]``, in the base's number format.

    ``memory``: for a prefix on a causal model the prompts' keys and values, one row a prompt, else None.
    """

    lengths: tuple[int, ...]
    vectors: Tensor
    memory: Memory | None

    @classmethod
    def ready(cls, base: BaseModel, position: str, prompts: Sequence[Tensor | None], *, remember: bool = True) -> Prompts:
        """Make prompts ready; gradients flow to them. None stands for the bare model: a prompt without vectors.

        Without gradients the keys and values of a prefix are computed once per prompt and base, and kept.

        Args:
            remember: whether a prefix's keys and values are wanted; the plain path takes its vectors.
        """
        given = [base.embed(torch.zeros(0, dtype=torch.long)) if p is None else p.to(base.device, base.dtype) for p in prompts]
        vectors, lengths = torch.cat(given), tuple(len(p) for p in given)
        if base.kind != "causal" or position != "prefix" or not len(vectors) or not remember:
            return cls(lengths, vectors, None)
        if torch.is_grad_enabled() and vectors.requires_grad:
            return cls(lengths, vectors, _memory(base, vectors, lengths))
        return cls(lengths, vectors, _kept.of(base, given))

    def columns(self, k: int) -> int:
        """How many columns prompt ``k`` adds to those that run for a row: none where its keys and values are remembered."""
        return self.lengths[k] if self.memory is None else 0

    def split(self) -> tuple[Prompts, Callable[[], None]]:
        """The same prompts cut off from their graph, and a function that carries the gradients they gathered back through it.

        So a step may run in several parts, and the prompts' own part of the model runs, forward and backward, once.
        """
        ends = [t for pair in self.memory.layers for t in pair] if self.memory else [self.vectors]
        if not any(end.requires_grad for end in ends):
            return self, lambda: None
        cut, leaves = self._cut()
        return cut, lambda: _carry(ends, [leaf.grad for leaf in leaves])

    def _cut(self) -> tuple[Prompts, list[Tensor]]:
        """These prompts without a graph, and the tensors at which gradients now end."""
        if self.memory is None:
            vectors = self.vectors.detach().requires_grad_()
            return Prompts(self.lengths, vectors, None), [vectors]
        layers = [(k.detach().requires_grad_(), v.detach().requires_grad_()) for k, v in self.memory.layers]
        return Prompts(self.lengths, self.vectors.detach(), Memory(layers, self.memory.mask)), [
            t for pair in layers for t in pair
        ]


def for_step(
    base: BaseModel, position: str, prompts: Sequence[Tensor], *, remember: bool = True
) -> tuple[Prompts, Callable[[], None]]:
    """Prompts ready for one training step that may run in several parts, and a function that in the end carries the gradients
    back to them.

    The graph of a few prompts is kept through the step. That of many would cost more memory than the rows do, so it is made anew
    when the gradients are carried, for some prompts at a time: their forward pass, a small part of a step, runs twice.
    """
    lengths = [len(prompt) for prompt in prompts]
    if len(prompts) == 1 or sum(lengths) <= KEPT_COLUMNS or position != "prefix" or base.kind != "causal" or not remember:
        return Prompts.ready(base, position, prompts, remember=remember).split()
    groups = batches(lengths, tokens=ENOUGH, rows=len(prompts))
    with torch.no_grad():
        vectors = [prompt.to(base.device, base.dtype) for prompt in prompts]
        every = Prompts(tuple(lengths), torch.cat(vectors), _memory(base, torch.cat(vectors), lengths))
    cut, leaves = every._cut()

    def carry() -> None:
        for group in groups:
            some = Prompts.ready(base, position, [prompts[k] for k in group])
            assert some.memory is not None
            ends = [t for pair in some.memory.layers for t in pair]
            reached = [
                None if leaf.grad is None else leaf.grad[group, :, -end.shape[2] :]
                for end, leaf in zip(ends, leaves, strict=True)
            ]
            _carry(ends, reached)

    return cut, carry


def _carry(ends: Sequence[Tensor], grads: Sequence[Tensor | None]) -> None:
    reached = [(end, grad) for end, grad in zip(ends, grads, strict=True) if grad is not None]
    torch.autograd.backward([end for end, _ in reached], [grad for _, grad in reached])


def _memory(base: BaseModel, vectors: Tensor, lengths: Sequence[int]) -> Memory:
    embedded, mask = pack(base, vectors, lengths, [[k] for k in range(len(lengths))])
    nowhere = Asked.of(base, [])
    return run(base, Memory.empty(len(lengths), base.device), embedded, mask, nowhere, remember=True)[1].aligned()


class _Kept:
    """Memories of prompts by content, the least recently used dropped beyond ``PROMPT_MEMORY_BYTES``."""

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[str, str, torch.dtype, str], Memory] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def of(self, base: BaseModel, prompts: Sequence[Tensor]) -> Memory:
        each = [self._one(base, prompt) for prompt in prompts]
        if len(each) == 1:
            return each[0]
        width = max(memory.mask.shape[1] for memory in each)
        layers = []
        full = next(memory for memory in each if memory.layers)
        for layer in range(len(full.layers)):
            pair = []
            for part in range(2):
                like = full.layers[layer][part]
                whole = like.new_zeros(len(each), like.shape[1], width, like.shape[3])
                for row, memory in enumerate(each):
                    if memory.layers:
                        states = memory.layers[layer][part]
                        whole[row, :, width - states.shape[2] :] = states[0]
                pair.append(whole)
            layers.append((pair[0], pair[1]))
        mask = torch.zeros(len(each), width, dtype=torch.long, device=full.mask.device)
        for row, memory in enumerate(each):
            mask[row, width - memory.mask.shape[1] :] = 1
        return Memory(layers, mask)

    def _one(self, base: BaseModel, prompt: Tensor) -> Memory:
        if not len(prompt):
            return Memory.empty(1, base.device)
        content = hashlib.sha256(prompt.detach().float().cpu().contiguous().numpy().tobytes()).hexdigest()
        # `id` as well: two models of one content may lie on different devices or be quantised differently.
        key = (content, f"{base.identity.fingerprint}/{id(base)}", base.dtype, str(base.device))
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        with torch.no_grad():
            memory = _memory(base, prompt.detach(), [len(prompt)])
        with self._lock:
            self._found[key] = memory
            self._bytes += _size(memory)
            while self._bytes > PROMPT_MEMORY_BYTES and len(self._found) > 1:
                self._bytes -= _size(self._found.popitem(last=False)[1])
        return memory


def _size(memory: Memory) -> int:
    return sum(states.numel() * states.element_size() for pair in memory.layers for states in pair)


_kept = _Kept()
