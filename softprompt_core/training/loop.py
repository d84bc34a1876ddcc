"""The training loop: one soft prompt, or many at once, on a frozen base (Lester et al. 2021)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from softprompt_core import settings
from softprompt_core.base_model.loading import BaseModel
from softprompt_core.errors import Diverged
from softprompt_core.forward import label_scores, target_losses
from softprompt_core.forward.recomputing import recomputing
from softprompt_core.training import checkpoint, data_parallel
from softprompt_core.training.checkpoint import TrainingState
from softprompt_core.training.gradients import PromptBatch, backward
from softprompt_core.training.optimizers import make_optimizer
from softprompt_core.training.rows import TrainingEngines, TrainingRows, epoch_batches
from softprompt_core.training.settings import TrainingSettings


@dataclass(frozen=True)
class Progress:
    """What a progress display shows after a step.

    Attributes:
        metric: validation accuracy, or negative validation loss, at the last check; ``best_metric`` at the best one.
        seconds: of training, those before an interruption included.
        began_at: the step at which this process took the training up; 0 unless it goes on from a checkpoint.
        earliest_end: the step at which early stopping ends it if no check is better than the best until then.
        stopped: why it has ended; empty while it goes on.
    """

    step: int
    max_steps: int
    loss: float
    metric: float
    best_step: int
    best_metric: float
    seconds: float
    began_at: int = 0
    earliest_end: int = 0
    stopped: str = ""


@dataclass(frozen=True, eq=False)
class TrainedPrompt:
    """The best validation checkpoint: ``weights`` float32 ``[P, H]``.

    ``history`` has one entry a validation check: step, loss (training mean since the last one), validation_loss,
    validation_metric, validation_error (the metric's standard error over the checked rows, NaN for a single row), learning_rate,
    prompt_norm (mean length of a vector). ``seconds``: wall time of the loop that trained it, in which other prompts may have
    been trained as well.
    """

    weights: Tensor
    seed: int
    best_step: int
    best_score: tuple[float, float]
    steps: int
    seconds: float
    stopped: str
    history: tuple[dict[str, float], ...]


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """One prompt to train.

    Args:
        start: float32 ``[P, H]``.
        save_to: checkpoint file; an interrupted training with the same ``key`` continues from it.
        key: identifies exactly this training (data, settings, base, library).
        on_check: called with each entry of the history; those of before come first where the training goes on from a checkpoint.
    """

    rows: TrainingRows
    start: Tensor
    settings: TrainingSettings
    seed: int = 0
    save_to: Path | None = None
    key: str = ""
    on_progress: Callable[[Progress], None] | None = None
    on_check: Callable[[Mapping[str, float]], None] | None = None


def train_prompt(base: BaseModel, job: TrainingJob, position: str, *, engines: TrainingEngines | None = None) -> TrainedPrompt:
    """Train one prompt; interrupted and continued, the result is bit-identical to an uninterrupted training.

    Raises:
        Diverged: no finite prompt was found.
    """
    (result,) = train_prompts(base, [job], position, engines=engines)
    if isinstance(result, Diverged):
        raise result
    return result


def train_prompts(
    base: BaseModel,
    jobs: Sequence[TrainingJob],
    position: str,
    *,
    engines: TrainingEngines | None = None,
    rows_at_once: int | None = None,
) -> list[TrainedPrompt | Diverged]:
    """Train many prompts of one position at once: of several tasks, seeds or settings.

    Every prompt has its own batches, optimiser, clipping, schedule and early stopping, so each comes out as if trained alone, up
    to the rounding that batch shapes bring. A prompt that diverges stops alone.

    Args:
        engines: over the rows of all jobs, to share their encoded inputs with other trainings.
        rows_at_once: at most so many rows, of all prompts, run together; None: the largest batch, on a GPU eight times that. On a
            CPU they run in parts of 512 tokens anyway.

    Returns:
        One result a job, in their order.
    """
    if engines is None:
        engines = TrainingEngines.over(base, position, list({id(job.rows): job.rows for job in jobs}.values()))
    if rows_at_once is None:
        rows_at_once = max(job.settings.batch_size for job in jobs) * (1 if base.device.type == "cpu" else 8)
    runs = [_Run(job, engines) for job in jobs]
    for run in runs:
        if not run.state.history:
            run.check(math.nan)
    saved, checkpoint_s = time.monotonic(), settings.current().checkpoint_s
    recompute = any(job.settings.gradient_checkpointing for job in jobs)
    while active := [run for run in runs if not run.state.finished]:
        with recomputing(base) if recompute else nullcontext():
            losses = backward(engines.train, [run.draw() for run in active], rows_at_once)
        for run, loss in zip(active, losses, strict=True):
            run.step(loss)
        if time.monotonic() - saved > checkpoint_s or any(run.state.finished for run in active):
            saved = time.monotonic()
            for run in active:  # at the same step, so that a continued training mixes their batches as this one would
                run.save()
    return [run.result() for run in runs]


class _Run:
    """A job and its state."""

    def __init__(self, job: TrainingJob, engines: TrainingEngines) -> None:
        self.job, self._engines = job, engines
        self._key = f"{job.key}/{job.seed}"
        loaded = checkpoint.load(job.save_to, self._key) if job.save_to else None
        self.state, moments = loaded if loaded else (TrainingState(prompt=job.start.clone(), best=job.start.clone()), {})
        device = engines.train.base.device
        self.state.best = self.state.best.to(device)
        self.prompt = self.state.prompt = self.state.prompt.detach().to(device).requires_grad_()
        self._optimizer = make_optimizer(self.prompt, job.settings)
        checkpoint.restore(self._optimizer, self.prompt, moments)
        self._began, self._began_at = time.monotonic() - self.state.seconds, self.state.step
        for entry in self.state.history:
            self._report(entry)
        self._epoch = -1
        self._batches: list[list[int]] = []  # of the epoch

    def draw(self) -> PromptBatch:
        """The rows of the next step."""
        rows, size = self.job.rows.train, self.job.settings.batch_size
        epoch, step = divmod(self.state.step, math.ceil(len(rows) / size))
        if epoch != self._epoch:
            self._epoch = epoch
            self._batches = epoch_batches([len(row.input_ids) for row in rows], size, self.job.seed, epoch)
        batch = [rows[i] for i in self._batches[step]]
        self._optimizer.zero_grad(set_to_none=True)
        indices = [self._engines.train_index[row.input_ids] for row in batch]
        return PromptBatch(self.prompt, batch, indices, self.job.rows.labels)

    def step(self, loss: float) -> None:
        """Take the step that ``prompt.grad`` says; check and finish when it is time."""
        state, chosen = self.state, self.job.settings
        torch.nn.utils.clip_grad_norm_([self.prompt], chosen.max_grad_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = chosen.rate(state.step)
        self._optimizer.step()
        state.step += 1
        state.losses.append(loss)
        if not math.isfinite(loss) or not bool(torch.isfinite(self.prompt).all()):
            state.finished = "diverged"
        elif state.step % chosen.eval_every == 0 or state.step == chosen.max_steps:
            self.check(sum(state.losses) / len(state.losses))
            state.losses = []
        state.seconds = time.monotonic() - self._began
        if self.job.on_progress:
            self.job.on_progress(self._progress(loss))

    def _progress(self, loss: float) -> Progress:
        state, chosen = self.state, self.job.settings
        return Progress(
            step=state.step,
            max_steps=chosen.max_steps,
            loss=loss,
            metric=state.history[-1]["validation_metric"],
            best_step=state.best_step,
            best_metric=state.best_score[0],
            seconds=state.seconds,
            began_at=self._began_at,
            earliest_end=min(chosen.max_steps, state.best_step + chosen.patience * chosen.eval_every),
            stopped=state.finished,
        )

    def check(self, loss: float) -> None:
        """Score validation rows, keep the best prompt, decide whether to stop. ``loss``: training mean since the last check."""
        state, chosen, prompt = self.state, self.job.settings, self.prompt.detach()
        metric, error, validation_loss = _score(self._engines, self.job.rows, prompt)
        state.history.append(
            dict(
                step=state.step,
                loss=loss,
                validation_loss=validation_loss,
                validation_metric=metric,
                validation_error=error,
                learning_rate=chosen.rate(state.step),
                prompt_norm=float(prompt.cpu().double().norm(dim=1).mean()),
            )
        )
        self._report(state.history[-1])
        score = (metric, -validation_loss)
        if math.isfinite(validation_loss) and score > state.best_score:
            state.best, state.best_score, state.best_step = prompt.clone(), score, state.step
        without_gain = sum(entry["step"] > state.best_step for entry in state.history)
        if state.step >= chosen.max_steps:
            state.finished = "reached max_steps"
        elif without_gain >= chosen.patience:
            state.finished = f"no improvement for {chosen.patience} checks"

    def _report(self, entry: Mapping[str, float]) -> None:
        if self.job.on_check and data_parallel.is_first():
            self.job.on_check(entry)

    def save(self) -> None:
        if self.job.save_to and data_parallel.is_first():
            checkpoint.save(self.job.save_to, self.state, self._optimizer, self._key)

    def result(self) -> TrainedPrompt | Diverged:
        state = self.state
        if not torch.isfinite(state.best).all() or not math.isfinite(state.best_score[1]):
            rate = self.job.settings.learning_rate
            return Diverged(
                f"training gave no finite prompt (stopped at step {state.step}, learning rate {rate:g})",
                do="lower training.learning_rate, or leave it at `auto`",
            )
        return TrainedPrompt(
            weights=state.best.clone().cpu(),
            seed=self.job.seed,
            best_step=state.best_step,
            best_score=state.best_score,
            steps=state.step,
            seconds=state.seconds,
            stopped=state.finished,
            history=tuple(state.history),
        )


def _score(engines: TrainingEngines, rows: TrainingRows, prompt: Tensor) -> tuple[float, float, float]:
    """Validation metric, its standard error, and loss over the checked rows."""
    count, engine = len(rows.checked), engines.checked
    own = list(data_parallel.share(range(count)))  # this process's rows
    own_rows = [rows.checked[i] for i in own]
    indices = [engines.checked_index[row.input_ids] for row in own_rows]
    losses, correct = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    if rows.labels is not None:
        scores = label_scores(engine, prompt, rows.labels, indices)
        gold = torch.tensor([rows.labels.ids.index(row.target_ids) for row in own_rows])
        losses[own] = -scores.double().gather(1, gold[:, None])[:, 0]
        correct[own] = (scores.argmax(dim=1) == gold).double()
    else:
        losses[own] = target_losses(engine, prompt, [row.target_ids for row in own_rows], indices).double()
    data_parallel.add_up([losses, correct])
    values = correct if rows.labels is not None else -losses
    error = float(values.std()) / math.sqrt(count) if count > 1 else math.nan
    return float(values.mean()), error, float(losses.mean())
