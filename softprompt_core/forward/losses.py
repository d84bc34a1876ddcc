"""How likely gold answers are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from softprompt_core.forward.engine import Engine
from softprompt_core.forward.layout import batches


@torch.no_grad()
def target_losses(
    engine: Engine, prompt: Tensor | None, targets: Sequence[tuple[int, ...]], rows: Sequence[int] | None = None
) -> Tensor:
    """Mean negative log-probability per token of each row's gold answer, nats, float32 ``[rows]`` on the CPU.

    Args:
        rows: indices into the engine's inputs, one a target; None for all.
    """
    prompts = engine.prompts([prompt], answer=max(map(len, targets), default=0))
    result = torch.empty(len(targets))
    rows = range(len(targets)) if rows is None else rows
    lengths = [len(engine.inputs[i]) + prompts.lengths[0] + len(target) for i, target in zip(rows, targets, strict=True)]
    for group in batches(lengths, tokens=8192, rows=64):
        answers = [targets[g] for g in group]
        logits = engine.target_logits(prompts, [0] * len(group), [rows[g] for g in group], answers)
        ids = torch.tensor([token for answer in answers for token in answer], device=logits.device)
        losses = torch.nn.functional.cross_entropy(logits, ids, reduction="none")
        result[group] = torch.stack([part.mean() for part in losses.split(list(map(len, answers)))]).cpu()
    return result
