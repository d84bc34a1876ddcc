"""The one place where the benchmarks touch this library's own training and scoring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import Stopwatch
from benchmarks.shapes import LABELS, Example, Recipe
from softprompt_core.base_model import BaseIdentity, BaseModel
from softprompt_core.encoding import Row
from softprompt_core.forward import Engine, label_scores, plain_target_logits
from softprompt_core.label_words import LabelTokens
from softprompt_core.training import Progress, TrainingRows, train_prompt
from softprompt_core.training.loop import _epoch_batches
from softprompt_core.training.settings import Settings

JOINT = False  # whether `train_joint` really trains the prompts together

# Rows/s with several tasks in one batch: (base, one prompt a row, rows) → label scores. None while the library has no such call.
score_mixed: Callable[[BaseModel, Sequence[Tensor], Sequence[Example]], Tensor] | None = None


def base_of(model: Any) -> BaseModel:
    """A base around a model that was built here and has neither folder nor tokenizer."""
    config = model.config
    return BaseModel(
        model=model,
        tokenizer=None,
        identity=BaseIdentity(type(model).__name__, None, str(id(model)), model.get_input_embeddings().weight.shape[1]),
        kind="encoder_decoder" if config.is_encoder_decoder else "causal",
        context=None,
        device=model.device,
        dtype=model.dtype,
    )


def settings(recipe: Recipe) -> Settings:
    """No checks in between: training is measured, and a check of the single validation row at either end."""
    return Settings(
        optimizer="adamw",
        learning_rate=recipe.learning_rate,
        max_steps=recipe.steps,
        batch_size=recipe.batch_size,
        eval_every=recipe.steps + 1,
        patience=10**6,
        weight_decay=recipe.weight_decay,
        warmup_steps=0,
        max_grad_norm=recipe.max_grad_norm,
    )


def train(
    base: BaseModel,
    examples: Sequence[Example],
    start: Tensor,
    position: str,
    recipe: Recipe,
    watch: Stopwatch | None = None,
    *,
    labels_only: bool = False,
) -> Tensor:
    """One prompt ``[P, H]``, trained by the library.

    Args:
        labels_only: loss over the label tokens, the library's default for classification; else over the whole vocabulary, which
            is what PEFT computes.
    """

    def on_progress(progress: Progress) -> None:
        if watch is not None:
            watch.step(progress.loss)

    rows = _rows(examples, labels_only)
    return train_prompt(base, rows, start, position, settings(recipe), seed=recipe.seed, on_progress=on_progress).weights


def train_joint(
    base: BaseModel, tasks: Sequence[Sequence[Example]], starts: Sequence[Tensor], position: str, recipe: Recipe
) -> list[Tensor]:
    """One prompt a task, all on one base; one after another while the library cannot train them together."""
    return [train(base, examples, start, position, recipe) for examples, start in zip(tasks, starts, strict=True)]


def train_plainly(
    base: BaseModel,
    examples: Sequence[Example],
    start: Tensor,
    position: str,
    recipe: Recipe,
    watch: Stopwatch,
    batches: Sequence[Sequence[int]],
) -> Tensor:
    """The same training on the readable statement of the method, row by row and without any fast path."""
    prompt = start.clone().requires_grad_()
    optimizer = torch.optim.AdamW([prompt], lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay)
    for step in range(recipe.steps):
        rows = _rows([examples[i] for i in batches[step]], False).train
        logits = torch.cat(plain_target_logits(base, prompt, position, rows))
        gold = torch.tensor([row.target_ids[0] for row in rows], device=logits.device)
        loss = torch.nn.functional.cross_entropy(logits, gold)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([prompt], recipe.max_grad_norm)
        optimizer.param_groups[0]["lr"] = recipe.rate(step)
        optimizer.step()
        watch.step(loss.detach())
    return prompt.detach()


def batches(examples: Sequence[Example], recipe: Recipe) -> list[list[int]]:
    """The rows of every step as ``train`` takes them, so that other sides can be given the same."""
    lengths = [len(example.input_ids) for example in examples]
    found: list[list[int]] = []
    epoch = 0
    while len(found) < recipe.steps:
        found += _epoch_batches(lengths, recipe.batch_size, recipe.seed, epoch)
        epoch += 1
    return found[: recipe.steps]


def score(base: BaseModel, prompt: Tensor | None, position: str, examples: Sequence[Example]) -> Tensor:
    """Log-probabilities of the labels ``[rows, L]`` for inputs that were never seen before (nothing is cached for them)."""
    engine = Engine(base, position, [example.input_ids for example in examples])
    return label_scores(engine, prompt, LabelTokens.from_ids(tuple((label,) for label in LABELS)))


def _rows(examples: Sequence[Example], labels_only: bool) -> TrainingRows:
    rows = [Row(example.input_ids, (example.target,)) for example in examples]
    return TrainingRows(rows, rows[:1], LabelTokens.from_ids(tuple((label,) for label in LABELS)) if labels_only else None)
