"""The machine's own speed at multiplying matrices, and how many floating-point operations a training step cannot do without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.measure import whole
from benchmarks.plan import Plan


def matmul_peak(plan: Plan) -> float:
    """Floating-point operations a second of the best of five square matrix products in the used dtype."""
    size = plan.matrix
    left, right = (torch.randn(size, size, device=plan.device, dtype=getattr(torch, plan.dtype)) for _ in range(2))
    torch.mm(left, right)
    repeats = 20 if plan.device == "cuda" else min(max(1, int(2e10 / size**3)), 100)

    def product() -> None:
        for _ in range(repeats):
            torch.mm(left, right)

    return 2 * size**3 * repeats / min(whole(product).wall for _ in range(5))


def useful(model: Any, lengths: Sequence[int], prompt: int, position: str, batch: int) -> float:
    """Floating-point operations of one epoch of prompt tuning of a causal model, counted by hand.

    Counted: products with the layers' weights, attention over the pairs of positions that see each other, and one row of logits
    an input; forward, and backward to the activations (no gradients of weights). Not counted: padding, anything repeated, logits
    of other positions, norms and activations, and, for a suffix, the input, which is encoded once and for all.
    """
    config = model.config
    head = model.get_output_embeddings()
    layers = sum(m.weight.numel() for m in model.modules() if m is not head and type(m).__name__ in ("Linear", "Conv1D"))
    heads = config.num_attention_heads * getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    own = prompt * (prompt + 1) / 2
    if position == "prefix":
        turns = len(lengths) / batch  # the prompt runs once a batch
        tokens = sum(lengths) + turns * prompt
        pairs = sum(n * (n + 1) / 2 + n * prompt for n in lengths) + turns * own
    else:
        tokens = len(lengths) * prompt
        pairs = sum(n * prompt + own for n in lengths)
    # Forward 2 a weight; backward 2 more. Attention is two products forward (scores, values) and four backward.
    return 4 * layers * tokens + 12 * heads * config.num_hidden_layers * pairs + 4 * head.weight.numel() * len(lengths)
