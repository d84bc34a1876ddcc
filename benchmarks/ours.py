"""The one place where the benchmarks touch this library's own training and scoring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from benchmarks.measure import Stopwatch
from benchmarks.shapes import LABELS, Example, Recipe
from softprompt_core.base_model import BaseIdentity
from softprompt_core.base_model.label_tree import LabelTree
from softprompt_core.base_model.loading import BaseModel
from softprompt_core.base_model.tokens import TokenizedRow
from softprompt_core.errors import Diverged
from softprompt_core.forward import Engine, label_scores, plain_target_logits, rank_labels
from softprompt_core.training import Progress, TrainingJob, TrainingRows, TrainingSettings, train_prompt, train_prompts
from softprompt_core.training.rows import epoch_batches

_LABELS = LabelTree.from_ids(tuple((label,) for label in LABELS))


def base_of(model: Any) -> BaseModel:
    """A base around a model that was built here and has no folder; its tokens are the words "0", "1" …"""
    config = model.config
    words = WordLevel({str(i): i for i in range(model.get_input_embeddings().weight.shape[0])}, unk_token="0")
    return BaseModel(
        model=model,
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), unk_token="0"),
        identity=BaseIdentity(
            id=type(model).__name__,
            revision=None,
            fingerprint=str(id(model)),
            hidden_size=model.get_input_embeddings().weight.shape[1],
        ),
        kind="encoder_decoder" if config.is_encoder_decoder else "causal",
        context=None,
        device=model.device,
        dtype=model.dtype,
    )


def settings(recipe: Recipe) -> TrainingSettings:
    """No checks in between: training is measured, and a check of the single validation row at either end."""
    return TrainingSettings(
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

    job = TrainingJob(_rows(examples, labels_only), start, settings(recipe), seed=recipe.seed, on_progress=on_progress)
    return train_prompt(base, job, recipe.position).weights


def train_joint(base: BaseModel, tasks: Sequence[Sequence[Example]], starts: Sequence[Tensor], recipe: Recipe) -> list[Tensor]:
    """One prompt a task, all trained together on one base."""
    jobs = [
        TrainingJob(_rows(examples, False), start, settings(recipe), seed=recipe.seed)
        for examples, start in zip(tasks, starts, strict=True)
    ]
    weights = []
    for result in train_prompts(base, jobs, recipe.position):
        if isinstance(result, Diverged):
            raise result
        weights.append(result.weights)
    return weights


def train_plainly(
    base: BaseModel,
    examples: Sequence[Example],
    start: Tensor,
    recipe: Recipe,
    watch: Stopwatch,
    batches: Sequence[Sequence[int]],
) -> Tensor:
    """The same training on the readable statement of the method, row by row and without any fast path."""
    prompt = start.clone().requires_grad_()
    optimizer = torch.optim.AdamW([prompt], lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay)
    for step in range(recipe.steps):
        rows = _rows([examples[i] for i in batches[step]], False).train
        logits = torch.cat(plain_target_logits(base, prompt, recipe.position, rows))
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
    order: list[list[int]] = []
    epoch = 0
    while len(order) < recipe.steps:
        order += epoch_batches(lengths, recipe.batch_size, recipe.seed, epoch)
        epoch += 1
    return order[: recipe.steps]


def score(base: BaseModel, prompt: Tensor | None, position: str, examples: Sequence[Example]) -> Tensor:
    """Log-probabilities of the labels ``[rows, L]`` for inputs that were never seen before (nothing is kept for them)."""
    engine = Engine(base, position, [example.input_ids for example in examples], cache_bytes=0)
    return label_scores(engine, prompt, _LABELS)


def score_mixed(base: BaseModel, prompts: Sequence[Tensor], examples: Sequence[Example]) -> list[Tensor]:
    """The same with several tasks in each batch: row n has prompt n modulo their number."""
    engine = Engine(base, "prefix", [example.input_ids for example in examples], cache_bytes=0)
    queries = [(row, row % len(prompts)) for row in range(len(examples))]
    return rank_labels(engine, prompts, [_LABELS] * len(prompts), queries)


def _rows(examples: Sequence[Example], labels_only: bool) -> TrainingRows:
    rows = [TokenizedRow(example.input_ids, (example.target,)) for example in examples]
    return TrainingRows(rows, rows[:1], _LABELS if labels_only else None)
