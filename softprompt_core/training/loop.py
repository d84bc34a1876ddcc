"""The training loop of one soft prompt on a frozen base (Lester et al. 2021)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from softprompt_core.base_model import BaseModel
from softprompt_core.data import spread
from softprompt_core.encoding import Row
from softprompt_core.errors import Diverged
from softprompt_core.forward import Engine, label_scores, target_losses
from softprompt_core.label_words import LabelTokens
from softprompt_core.training import checkpoint
from softprompt_core.training.checkpoint import State
from softprompt_core.training.optimizers import make_optimizer
from softprompt_core.training.settings import Settings

VALIDATION_ROWS = 512  # checks happen often; more rows would cost more than they tell
_SAVE_SECONDS = 5.0  # a checkpoint is some tens of kB
_BUCKETS = 40  # batches are cut from this many batches' worth of shuffled rows, sorted by length


@dataclass(frozen=True)
class TrainingRows:
    """Encoded rows. For classification ``labels`` holds the label tokens and every target is one of them; None for generation."""

    train: Sequence[Row]
    validation: Sequence[Row]
    labels: LabelTokens | None = None

    @property
    def checked(self) -> list[Row]:
        """The validation rows that every check looks at."""
        return spread(self.validation, VALIDATION_ROWS)


@dataclass(frozen=True)
class Progress:
    """What a progress display shows after a step. ``metric``: validation accuracy, or negative validation loss."""

    step: int
    max_steps: int
    loss: float
    metric: float
    best_step: int
    seconds: float


@dataclass(frozen=True, eq=False)
class TrainedPrompt:
    """The best validation checkpoint: ``weights`` float32 ``[P, H]``.

    ``history`` has one entry a validation check: step, loss (training mean since the last one), validation_loss,
    validation_metric, learning_rate, prompt_norm (mean length of a vector).
    """

    weights: Tensor
    seed: int
    best_step: int
    best_score: tuple[float, float]
    steps: int
    seconds: float
    stopped: str
    history: tuple[dict[str, float], ...]


def train_prompt(
    base: BaseModel,
    rows: TrainingRows,
    start: Tensor,
    position: str,
    settings: Settings,
    *,
    seed: int = 0,
    engines: tuple[Engine, Engine] | None = None,
    save_to: Path | None = None,
    key: str = "",
    on_progress: Callable[[Progress], None] | None = None,
) -> TrainedPrompt:
    """Train one prompt. Setup, resume, steps with checks, best checkpoint.

    Args:
        start: float32 ``[P, H]``.
        engines: for (train, validation) inputs, shared by several seeds so that frozen inputs are encoded once.
        save_to: checkpoint file; an interrupted training with the same ``key`` continues from it, bit-identically.
        key: identifies exactly this training (data, settings, base, library).

    Raises:
        Diverged: no finite prompt was found.
    """
    if engines is None:
        engines = make_engines(base, rows, position)
    key = f"{key}/{seed}"
    torch.manual_seed(seed)
    found = checkpoint.load(save_to, key) if save_to else None
    state, moments = found if found else (State(prompt=start.clone(), best=start.clone()), {})
    prompt = state.prompt = state.prompt.detach().requires_grad_()
    optimizer = make_optimizer(prompt, settings)
    checkpoint.restore(optimizer, prompt, moments)

    began, saved = time.monotonic() - state.seconds, time.monotonic()
    if not state.history:
        _check(base, engines[1], rows, state, math.nan, settings)
    losses: list[float] = []
    per_epoch = math.ceil(len(rows.train) / settings.batch_size)
    epoch, order = -1, []
    while not state.finished:
        if state.step // per_epoch != epoch:
            epoch = state.step // per_epoch
            order = _epoch_batches([len(row.input_ids) for row in rows.train], settings.batch_size, seed, epoch)
        loss = _step(engines[0], rows, order[state.step % per_epoch], prompt, optimizer, settings, state.step)
        state.step += 1
        losses.append(loss)
        if not math.isfinite(loss) or not bool(torch.isfinite(prompt).all()):
            state.finished = "diverged"
        elif state.step % settings.eval_every == 0 or state.step == settings.max_steps:
            _check(base, engines[1], rows, state, sum(losses) / len(losses), settings)
            losses = []
        state.seconds = time.monotonic() - began
        if on_progress:
            metric = state.history[-1]["validation_metric"]
            on_progress(Progress(state.step, settings.max_steps, loss, metric, state.best_step, state.seconds))
        # Only right after a check: the running mean of the loss between checks is not part of the state.
        if save_to and not losses and (time.monotonic() - saved > _SAVE_SECONDS or state.finished):
            checkpoint.save(save_to, state, optimizer, key)
            saved = time.monotonic()
    if not torch.isfinite(state.best).all() or not math.isfinite(state.best_score[1]):
        raise Diverged(
            f"training gave no finite prompt (stopped at step {state.step}, learning rate {settings.learning_rate:g})",
            do="lower training.learning_rate, or leave it at `auto`",
        )
    return TrainedPrompt(
        weights=state.best.clone(),
        seed=seed,
        best_step=state.best_step,
        best_score=state.best_score,
        steps=state.step,
        seconds=state.seconds,
        stopped=state.finished,
        history=tuple(state.history),
    )


def make_engines(base: BaseModel, rows: TrainingRows, position: str) -> tuple[Engine, Engine]:
    """Engines over the training inputs and the validation inputs that are checked."""
    train, checked = ([row.input_ids for row in split] for split in (rows.train, rows.checked))
    return Engine(base, position, train), Engine(base, position, checked)


def _step(
    engine: Engine,
    rows: TrainingRows,
    indices: Sequence[int],
    prompt: Tensor,
    optimizer: torch.optim.Optimizer,
    settings: Settings,
    step: int,
) -> float:
    """One optimiser step; returns the batch's loss in nats: per row over the labels, or per target token for generation."""
    targets = [rows.train[i].target_ids for i in indices]
    logits, ids = engine.target_logits(prompt, indices, targets)
    if rows.labels is None:
        loss = torch.nn.functional.cross_entropy(logits, ids)
    else:
        gold = [rows.labels.ids.index(target) for target in targets]
        tokens = [(label, place) for label, target in zip(gold, targets, strict=True) for place in range(len(target))]
        loss = -rows.labels.log_probabilities(logits, tokens).sum() / len(targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([prompt], settings.max_grad_norm)
    for group in optimizer.param_groups:
        group["lr"] = settings.rate(step)
    optimizer.step()
    return float(loss.detach())


def _check(base: BaseModel, engine: Engine, rows: TrainingRows, state: State, loss: float, settings: Settings) -> None:
    """Score the validation rows, keep the best prompt, decide whether to stop."""
    prompt = state.prompt.detach()
    checked = rows.checked
    if rows.labels is not None:
        scores = label_scores(engine, prompt, rows.labels)
        gold = torch.tensor([rows.labels.ids.index(row.target_ids) for row in checked])
        validation_loss = -float(scores.double().gather(1, gold[:, None]).mean())
        metric = float((scores.argmax(dim=1) == gold).double().mean())
    else:
        validation_loss = float(target_losses(engine, prompt, [row.target_ids for row in checked]).double().mean())
        metric = -validation_loss
    state.history.append(
        dict(
            step=state.step,
            loss=loss,
            validation_loss=validation_loss,
            validation_metric=metric,
            learning_rate=settings.rate(state.step),
            prompt_norm=float(prompt.norm(dim=1).mean()),
        )
    )
    score = (metric, -validation_loss)
    if math.isfinite(validation_loss) and score > state.best_score:
        state.best, state.best_score, state.best_step = prompt.clone(), score, state.step
    without_gain = sum(entry["step"] > state.best_step for entry in state.history)
    if state.step >= settings.max_steps:
        state.finished = "reached max_steps"
    elif without_gain >= settings.patience:
        state.finished = f"no improvement for {settings.patience} checks"


def _epoch_batches(lengths: Sequence[int], size: int, seed: int, epoch: int) -> list[list[int]]:
    """Batches of one epoch: shuffled, yet each of similar lengths, so that little padding is computed."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    cut: list[list[int]] = []
    for start in range(0, len(order), size * _BUCKETS):
        bucket = sorted(order[start : start + size * _BUCKETS], key=lambda i: lengths[i])
        cut += [bucket[i : i + size] for i in range(0, len(bucket), size)]
    return [cut[i] for i in torch.randperm(len(cut), generator=generator).tolist()]
