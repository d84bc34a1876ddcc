"""The effective settings of a training: what the user set, and good values for the rest."""

from __future__ import annotations

from softprompt_core.base_model.loading import BaseModel
from softprompt_core.spec import TrainingConfig
from softprompt_core.spec.frozen import Frozen

# An AdamW step moves a coordinate by about the learning rate, so the rate is a share of an embedding's typical coordinate.
_ADAMW_RATE = 0.3
_PAPER_RATE = 0.3  # Adafactor without parameter scaling, Lester et al. 2021, section 3


class TrainingSettings(Frozen):
    """All numbers that decide a training; logged with the run. ``learning_rate`` is the peak, lengths are in steps."""

    optimizer: str
    learning_rate: float
    max_steps: int
    batch_size: int
    eval_every: int
    patience: int
    weight_decay: float
    warmup_steps: int
    max_grad_norm: float
    gradient_checkpointing: bool = False

    def rate(self, step: int) -> float:
        """Learning rate of a step, from 0: linear warm-up; then constant for Adafactor (the paper), linear decay for AdamW."""
        warm = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.optimizer == "adafactor":
            return self.learning_rate * warm
        left = 1 - step / self.max_steps
        return self.learning_rate * min(warm, max(left, 0.02))


def choose_settings(config: TrainingConfig, base: BaseModel, rows: int) -> TrainingSettings:
    """Fill every ``auto``.

    Args:
        rows: number of training rows. Steps are about 15 passes over them, between 200 and 2,000; early stopping usually ends
            sooner.
    """
    batch = min(config.batch_size, rows)
    steps = config.max_steps if config.max_steps != "auto" else min(max(15 * rows // batch, 200), 2000)
    rate = config.learning_rate
    if rate == "auto":
        rate = _PAPER_RATE if config.optimizer == "adafactor" else _ADAMW_RATE * base.embedding_rms
    return TrainingSettings(
        optimizer=config.optimizer,
        learning_rate=float(rate),
        max_steps=steps,
        batch_size=batch,
        eval_every=config.eval_every if config.eval_every != "auto" else min(max(steps // 25, 10), 50),
        patience=config.patience,
        weight_decay=config.weight_decay,
        warmup_steps=min(config.warmup_steps, steps // 10),
        max_grad_norm=config.max_grad_norm,
        gradient_checkpointing=config.gradient_checkpointing,
    )
