"""Gradient checkpointing (Chen et al. 2016): layers keep their inputs only and run again in the backward pass.

The model library's own switch drops every cache, and with it our prompt or our input. Here a layer continues from a cache that
running it again does not change, so both work together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from softprompt_core.base_model.loading import BaseModel

_on: ContextVar[bool] = ContextVar("recomputing", default=False)


@contextmanager
def recomputing(base: BaseModel) -> Iterator[None]:
    """Within, layers of ``base`` run under gradient checkpointing wherever gradients are taken."""
    for layer in base.model.modules():
        if isinstance(layer, GradientCheckpointingLayer) and not hasattr(layer, "can_recompute"):
            _prepare(layer)
    token = _on.set(True)
    try:
        yield
    finally:
        _on.reset(token)


def _prepare(layer: Any) -> None:
    original = layer.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not _on.get() or not torch.is_grad_enabled():
            return original(*args, **kwargs)
        # The second run is in the backward pass, where no logits are selected any more.
        context = copy_context()
        return checkpoint(lambda *a, **k: context.run(original, *a, **k), *args, use_reentrant=False, **kwargs)

    layer.forward, layer.can_recompute = forward, True
