"""AdamW from torch, and the paper's Adafactor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from softprompt_core.training.settings import TrainingSettings


class Adafactor(torch.optim.Optimizer):
    """Adafactor as the paper ran it (t5x ``adafactor.py``; Shazeer & Stern 2018 for the method).

    Three points that ports get wrong, and that matter for a ``[length, hidden]`` matrix: the second moment is *not* factored
    (t5x factors only when both dimensions reach 128); there is no parameter scaling; and weight decay is *not* multiplied by the
    learning rate:

        b_t = 1 - t^-0.8;  v = b v + (1 - b)(g² + 1e-30);  u = g / sqrt(v);  u /= max(1, rms(u));  p = (1 - decay) p - lr u

    ``rms`` runs over one whole parameter, so every prompt must be a parameter of its own.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float = 1e-5, decay_rate: float = 0.8) -> None:
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay, decay_rate=decay_rate))

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"], state["exp_avg_sq"] = torch.tensor(0.0), torch.zeros_like(p)
                state["step"] += 1
                beta = 1 - float(state["step"]) ** -group["decay_rate"]
                state["exp_avg_sq"].mul_(beta).add_(p.grad.square() + 1e-30, alpha=1 - beta)
                update = p.grad / state["exp_avg_sq"].sqrt()
                update /= max(1.0, float(update.square().mean().sqrt()))
                p.mul_(1 - group["weight_decay"]).sub_(update, alpha=group["lr"])


def make_optimizer(prompt: Tensor, settings: TrainingSettings) -> torch.optim.Optimizer:
    if settings.optimizer == "adafactor":
        return Adafactor([prompt], lr=settings.learning_rate, weight_decay=settings.weight_decay)
    return torch.optim.AdamW([prompt], lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay)
