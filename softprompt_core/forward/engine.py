"""``Engine``: one base, one prompt position, one list of inputs; the fast path where it is exact, the slow one where not."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from softprompt_core.base_model import BaseModel
from softprompt_core.encoding import Row
from softprompt_core.forward.causal import ContextCache, Memory, run
from softprompt_core.forward.layout import pad_left, pad_right
from softprompt_core.forward.plain import plain_target_logits, shift_right

# For some 10,000 short inputs on a small base; an input token costs 2 x layers x key-value width numbers.
CACHE_BYTES = 2_500_000_000


@dataclass(frozen=True)
class _Inputs:
    """Input ids of a batch, and how to get their keys and values without running them again."""

    ids: Sequence[tuple[int, ...]]
    memory: Callable[[], Memory]


class Engine:
    """Runs prompts over a fixed list of inputs.

    The fast path of the loaded model is compared with the plain one on two short rows when the engine is made, and switched
    off with a warning where they differ (an architecture with unusual caching or positions); ``reason`` then says why.
    """

    def __init__(
        self, base: BaseModel, position: str, inputs: Sequence[tuple[int, ...]], *, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self.base, self.position, self.inputs = base, position, list(inputs)
        self.reason: str | None = _why_not(base, position)
        if self.reason:
            warnings.warn(f"{base.identity.id}: slow path, row by row: {self.reason}", RuntimeWarning, stacklevel=2)
        self.contexts = ContextCache(base, self.inputs, cache_bytes)

    def target_logits(
        self, prompt: Tensor | None, indices: Sequence[int], targets: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        """Logits of every target token and the tokens themselves: float32 ``[N, V]`` and int64 ``[N]``, N = target tokens.

        Args:
            prompt: ``[P, H]`` (gradients flow to it), or None for the bare model.
            indices: rows of ``inputs``.
            targets: token ids of each row's answer.
        """
        if self.reason:
            rows = [Row(self.inputs[i], tuple(t)) for i, t in zip(indices, targets, strict=True)]
            flat = torch.tensor([i for t in targets for i in t], device=self.base.device)
            return torch.cat(plain_target_logits(self.base, prompt, self.position, rows)), flat
        return _batched_logits(self.base, prompt, self.position, self._memory_inputs(indices), targets)

    def _memory_inputs(self, indices: Sequence[int]) -> _Inputs:
        return _Inputs([self.inputs[i] for i in indices], lambda: self.contexts.batch(indices))

    def state(self, prompt: Tensor | None, indices: Sequence[int]) -> tuple[Tensor, Memory]:
        """Causal only: logits ``[B, V]`` of the first answer token, and the memory that the answer continues from."""
        logits, memory = _before_answer(self.base, prompt, self.position, self._memory_inputs(indices))
        return logits[:, -1].float(), memory

    def encoder_batch(self, prompt: Tensor | None, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Encoder–decoder only: embedded encoder inputs ``[B, T, H]`` with the prompt in place, and their mask."""
        return _encoder_batch(self.base, prompt, self.position, [self.inputs[i] for i in indices])


def _before_answer(base: BaseModel, prompt: Tensor | None, position: str, inputs: _Inputs) -> tuple[Tensor, Memory]:
    """Run everything up to the answer. Returns logits of the last column ``[B, 1, V]`` and the memory."""
    memory, embedded, mask = _fresh(base, prompt, position, inputs)
    return run(base, memory, embedded, mask, keep=1)


def _fresh(base: BaseModel, prompt: Tensor | None, position: str, inputs: _Inputs) -> tuple[Memory, Tensor, Tensor]:
    """What is remembered before the answer, and what still has to run: (memory, embedded ``[B, T, H]``, mask ``[B, T]``)."""
    rows = len(inputs.ids)
    soft = None if prompt is None else prompt.to(base.device).to(base.dtype)
    if soft is not None and position == "suffix":
        ones = torch.ones(rows, len(soft), dtype=torch.long, device=base.device)
        return inputs.memory(), soft.expand(rows, -1, -1), ones
    ids, mask = pad_left(inputs.ids)
    ids, mask = ids.to(base.device), mask.to(base.device)
    memory = Memory.empty(rows, base.device)
    if soft is not None:
        ones = torch.ones(1, len(soft), dtype=torch.long, device=base.device)
        _, one = run(base, Memory.empty(1, base.device), soft[None], ones, keep=1)
        memory = one.expand(rows)
    return memory, base.embed(ids), mask


def _batched_logits(
    base: BaseModel, prompt: Tensor | None, position: str, inputs: _Inputs, targets: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor]:
    ids, real = pad_right(targets)
    ids, real = ids.to(base.device), real.to(base.device)
    if base.kind == "causal":
        memory, embedded, mask = _fresh(base, prompt, position, inputs)
        whole = torch.cat([embedded, base.embed(ids[:, :-1])], dim=1)
        logits, _ = run(base, memory, whole, torch.cat([mask, real[:, :-1]], dim=1), keep=ids.shape[1])
    else:
        embedded, mask = _encoder_batch(base, prompt, position, inputs.ids)
        logits = base.model(inputs_embeds=embedded, attention_mask=mask, decoder_input_ids=shift_right(base, ids)).logits
    chosen = real.bool()
    return logits[chosen].float(), ids[chosen]


def _encoder_batch(
    base: BaseModel, prompt: Tensor | None, position: str, inputs: Sequence[tuple[int, ...]]
) -> tuple[Tensor, Tensor]:
    # Right-padded for a prefix, left-padded for a suffix: either way prompt and input touch, as relative positions demand.
    ids, mask = pad_right(inputs) if position == "prefix" else pad_left(inputs)
    embedded, mask = base.embed(ids), mask.to(base.device)
    if prompt is None:
        return embedded, mask
    soft = prompt.to(base.device).to(embedded.dtype).expand(len(inputs), -1, -1)
    ones = torch.ones(soft.shape[:2], dtype=torch.long, device=base.device)
    pair = ((soft, embedded), (ones, mask)) if position == "prefix" else ((embedded, soft), (mask, ones))
    return torch.cat(pair[0], dim=1), torch.cat(pair[1], dim=1)


_checked: dict[tuple[int, str], str | None] = {}


def _why_not(base: BaseModel, position: str) -> str | None:
    """None when the batched path equals the plain one on two rows of different length, else the reason."""
    key = (id(base), position)
    if key not in _checked:
        _checked[key] = _compare(base, position)
    return _checked[key]


@torch.no_grad()
def _compare(base: BaseModel, position: str) -> str | None:
    top = min(base.model.config.get_text_config().vocab_size, 1000)
    some = [7 * i % (top - 10) + 5 for i in range(1, 12)]
    rows = [Row(tuple(some[:9]), (some[9], some[10])), Row(tuple(some[4:7]), (some[2],))]
    prompt = base.embed(torch.tensor(some[2:6])).float()
    wanted = torch.cat(plain_target_logits(base, prompt, position, rows))
    cache = ContextCache(base, [row.input_ids for row in rows], budget=0)
    inputs = _Inputs([row.input_ids for row in rows], lambda: cache.batch([0, 1]))
    try:
        got, _ = _batched_logits(base, prompt, position, inputs, [row.target_ids for row in rows])
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
        return f"this architecture refuses the cached path ({type(error).__name__}: {error})"
    # Half-precision models differ by rounding alone; float32 must agree closely.
    allowed = 1e-3 if base.dtype == torch.float32 else 5e-2
    difference = float((got - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6))
    return None if difference <= allowed else f"batched and plain logits differ by {difference:.1e}"
