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
from softprompt_core.forward.layout import pack
from softprompt_core.forward.memory import Memory, run

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

    def split(self) -> tuple[Prompts, Callable[[], None]]:
        """The same prompts cut off from their graph, and a function that carries the gradients they gathered back through it.

        So a step may run in several parts, and the prompts' own part of the model runs, forward and backward, once.
        """
        ends = [t for pair in self.memory.layers for t in pair] if self.memory else [self.vectors]
        if not any(end.requires_grad for end in ends):
            return self, lambda: None
        cut = [end.detach().requires_grad_() for end in ends]

        def carry() -> None:
            reached = [(end, leaf.grad) for end, leaf in zip(ends, cut, strict=True) if leaf.grad is not None]
            torch.autograd.backward([end for end, _ in reached], [grad for _, grad in reached])

        if self.memory is None:
            return Prompts(self.lengths, cut[0], None), carry
        layers = list(zip(cut[0::2], cut[1::2], strict=True))
        return Prompts(self.lengths, self.vectors.detach(), Memory(layers, self.memory.mask)), carry


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
