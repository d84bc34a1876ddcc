"""Logits only where they are asked for: hidden states are gathered at answer positions before the vocabulary projection, and
label ranking projects onto label tokens alone. Behind the last attention nothing looks at other positions any more, so the last
layer's MLP runs at answer positions alone as well.

The model's own modules are made to do so while ``asked`` is active, whatever the model does before and after them (scaling, soft
caps). Who asks is a context variable, so threads that share a base do not disturb each other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from softprompt_core.base_model import BaseModel


@dataclass(frozen=True)
class Asked:
    """Which logits: ``rows`` and ``columns`` int64 ``[N]``; ``tokens`` int64 ``[L]``, or None for the whole vocabulary."""

    rows: Tensor
    columns: Tensor
    tokens: Tensor | None = None

    @classmethod
    def of(cls, base: BaseModel, places: list[tuple[int, int]], tokens: Tensor | None = None) -> Asked:
        index = torch.tensor(places, dtype=torch.long, device=base.device).view(-1, 2)
        return cls(index[:, 0], index[:, 1], tokens)


_asked: ContextVar[Asked | None] = ContextVar("asked", default=None)
_lock = threading.Lock()


@contextmanager
def asked(what: Asked) -> Iterator[None]:
    """Within, the model's ``logits`` are ``[1, N, V]`` or ``[1, N, L]``."""
    token = _asked.set(what)
    try:
        yield
    finally:
        _asked.reset(token)


def prepare(base: BaseModel) -> None:
    """Make the output layer and the last MLP of ``base`` answer to ``asked``; once a model."""
    head = base.model.get_output_embeddings()
    with _lock:
        if not hasattr(head, "answers_asked"):
            if base.kind == "causal":
                _prepare_last_mlp(base)
            original = head.forward

            def forward(hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
                what = _asked.get()
                if what is None:
                    return original(hidden, *args, **kwargs)
                picked = hidden[what.rows.to(hidden.device), what.columns.to(hidden.device)][None]
                if what.tokens is None:
                    return original(picked, *args, **kwargs)
                bias = None if head.bias is None else head.bias[what.tokens]
                return torch.nn.functional.linear(picked, head.weight[what.tokens], bias)

            head.forward, head.answers_asked = forward, True


def _prepare_last_mlp(base: BaseModel) -> None:
    layers = [module for module in base.model.modules() if isinstance(module, GradientCheckpointingLayer)]
    mlp = getattr(layers[-1], "mlp", None) if layers else None
    if not isinstance(mlp, torch.nn.Module):
        return  # an architecture that names it otherwise does a little more work
    original = mlp.forward

    def forward(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        what = _asked.get()
        if what is None or args or kwargs or hidden.ndim != 3:
            return original(hidden, *args, **kwargs)
        place = what.rows.to(hidden.device), what.columns.to(hidden.device)
        found = original(hidden[place][None])
        if not isinstance(found, Tensor):  # mixtures of experts may return more
            return original(hidden)
        return torch.zeros_like(hidden).index_put(place, found[0])

    mlp.forward = forward


def can_choose_tokens(base: BaseModel) -> bool:
    """Whether the output layer's rows can be read: not if they are quantised, or lie on disk until they are used."""
    head = base.model.get_output_embeddings()
    return type(head) is torch.nn.Linear and head.weight.is_floating_point() and head.weight.device.type != "meta"
