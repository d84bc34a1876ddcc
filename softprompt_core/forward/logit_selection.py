"""Logits at selected positions only: hidden states are gathered at answer positions before the vocabulary projection, and label
ranking projects onto label tokens alone. Behind the last attention no position depends on another, so the last layer's MLP runs
at answer positions alone as well.

The model's own modules do so while ``select_logits`` is active, whatever the model does before and after them (scaling, soft
caps). The selection is a context variable, so threads that share a base do not disturb each other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from softprompt_core.base_model.loading import BaseModel


@dataclass(frozen=True)
class LogitSelection:
    """Which logits: ``rows`` and ``columns`` int64 ``[N]``; ``tokens`` int64 ``[L]``, or None for the whole vocabulary."""

    rows: Tensor
    columns: Tensor
    tokens: Tensor | None = None

    @classmethod
    def of(cls, base: BaseModel, positions: Sequence[tuple[int, int]], tokens: Tensor | None = None) -> LogitSelection:
        """``positions``: N pairs of row and column; none selects no logits at all."""
        index = torch.tensor(positions, dtype=torch.long, device=base.device).view(-1, 2)
        return cls(index[:, 0], index[:, 1], tokens)

    def positions(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Index of the selected positions in ``hidden`` ``[B, T, H]``, on its device."""
        return self.rows.to(hidden.device), self.columns.to(hidden.device)


_selection: ContextVar[LogitSelection | None] = ContextVar("logit_selection", default=None)
_lock = threading.Lock()


@contextmanager
def select_logits(selection: LogitSelection) -> Iterator[None]:
    """Within, the model's ``logits`` are ``[1, N, V]`` or ``[1, N, L]``."""
    token = _selection.set(selection)
    try:
        yield
    finally:
        _selection.reset(token)


def prepare(base: BaseModel) -> None:
    """Make the output layer and the last MLP of ``base`` follow ``select_logits``; once a model."""
    head = base.model.get_output_embeddings()
    with _lock:
        if hasattr(head, "follows_selection"):
            return
        if base.kind == "causal":
            _prepare_last_mlp(base)
        original = head.forward

        def forward(hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            selection = _selection.get()
            if selection is None:
                return original(hidden, *args, **kwargs)
            selected = hidden[selection.positions(hidden)][None]
            if selection.tokens is None:
                return original(selected, *args, **kwargs)
            bias = None if head.bias is None else head.bias[selection.tokens]
            return torch.nn.functional.linear(selected, head.weight[selection.tokens], bias)

        head.forward, head.follows_selection = forward, True


def _prepare_last_mlp(base: BaseModel) -> None:
    layers = [module for module in base.model.modules() if isinstance(module, GradientCheckpointingLayer)]
    mlp = getattr(layers[-1], "mlp", None) if layers else None
    if not isinstance(mlp, torch.nn.Module):
        return  # an architecture that names it otherwise does a little more work
    original = mlp.forward

    def forward(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        selection = _selection.get()
        if selection is None or args or kwargs or hidden.ndim != 3:
            return original(hidden, *args, **kwargs)
        positions = selection.positions(hidden)
        output = original(hidden[positions][None])
        if not isinstance(output, Tensor):  # mixtures of experts may return more
            return original(hidden)
        return torch.zeros_like(hidden).index_put(positions, output[0])

    mlp.forward = forward


def can_select_tokens(base: BaseModel) -> bool:
    """Whether the output layer's rows can be read: not if they are quantised, or lie on disk until they are used."""
    head = base.model.get_output_embeddings()
    return type(head) is torch.nn.Linear and head.weight.is_floating_point() and head.weight.device.type != "meta"
