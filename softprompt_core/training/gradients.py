"""Losses and gradients of one batch that mixes rows of several prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from softprompt_core.base_model.label_tree import LabelTree
from softprompt_core.base_model.tokens import TokenizedRow
from softprompt_core.forward import Engine
from softprompt_core.forward.layout import ENOUGH, batches
from softprompt_core.training import data_parallel


@dataclass(frozen=True, eq=False)
class PromptBatch:
    """One prompt's rows of a step. ``indices``: of the rows' inputs in the engine."""

    prompt: Tensor
    rows: Sequence[TokenizedRow]
    indices: Sequence[int]
    labels: LabelTree | None

    @property
    def terms(self) -> int:
        """How many losses the mean is over: rows for classification, target tokens for generation."""
        return len(self.rows) if self.labels is not None else sum(len(row.target_ids) for row in self.rows)


def backward(engine: Engine, batch: Sequence[PromptBatch], rows_at_once: int) -> list[float]:
    """Add each prompt's gradient of its own mean loss to ``prompt.grad``; returns the losses in nats.

    The mean is over rows for classification (loss over the labels) and over target tokens for generation, each prompt by itself,
    so that a batch of many prompts is the same as many batches of one.

    Args:
        rows_at_once: rows, of whichever prompts, that run together. More cost memory.
    """
    longest = max(len(row.target_ids) for own in batch for row in own.rows)
    prompts, carry_gradients = engine.prepare_step([own.prompt for own in batch], longest)
    losses = [torch.zeros((), device=own.prompt.device) for own in batch]
    for ranked in (True, False):
        # Pairs of prompt and row, by length, so that little padding is computed.
        queries = [(k, n) for k, own in enumerate(batch) if (own.labels is not None) is ranked for n in range(len(own.rows))]
        queries = list(data_parallel.share(sorted(queries, key=lambda query: _length(batch, query))))
        vocabulary = sorted({t for own in batch if own.labels is not None for t in own.labels.tokens}) if ranked else None
        for part in _parts(engine, batch, queries, rows_at_once):
            targets = [batch[k].rows[n].target_ids for k, n in part]
            indices = [batch[k].indices[n] for k, n in part]
            logits = engine.target_logits(prompts, [k for k, _ in part], indices, targets, vocabulary)
            summed = _summed_losses(logits, batch, part, vocabulary)
            means = {k: loss * (1 / batch[k].terms) for k, loss in summed.items()}
            sum(means.values(), start=logits.new_zeros(())).backward()
            for k, loss in means.items():
                losses[k] += loss.detach().to(losses[k].device)
    carry_gradients()
    for own in batch:  # a process may have no row of a prompt
        own.prompt.grad = torch.zeros_like(own.prompt) if own.prompt.grad is None else own.prompt.grad
    data_parallel.add_up([*(own.prompt.grad for own in batch if own.prompt.grad is not None), *losses])
    return [float(loss) for loss in losses]


def _length(batch: Sequence[PromptBatch], query: tuple[int, int]) -> int:
    return len(batch[query[0]].rows[query[1]].input_ids)


def _parts(
    engine: Engine, batch: Sequence[PromptBatch], queries: Sequence[tuple[int, int]], rows_at_once: int
) -> list[list[tuple[int, int]]]:
    """Queries in parts of similar length: little padding, and on a CPU a layer's activations of a part stay in its cache.

    Elsewhere a part is as large as memory allows: as ``rows_at_once`` rows of the widest of the prompts' own batches.
    """
    tokens = ENOUGH
    if engine.base.device.type != "cpu":
        widest = max(len(own.rows) * max(len(row.input_ids) for row in own.rows) for own in batch)
        tokens = widest * rows_at_once // max(len(own.rows) for own in batch)
    lengths = [_length(batch, query) for query in queries]
    return [[queries[i] for i in part] for part in batches(lengths, tokens=tokens, rows=rows_at_once, enough=tokens)]


def _summed_losses(
    logits: Tensor, batch: Sequence[PromptBatch], part: Sequence[tuple[int, int]], vocabulary: Sequence[int] | None
) -> dict[int, Tensor]:
    """Summed loss of each prompt that has rows in this part, from logits ``[N, V or L]`` of all target tokens."""
    logit_rows: dict[int, list[int]] = {}  # of each prompt
    targets: dict[int, list[tuple[int, ...]]] = {}
    total = 0
    for k, n in part:
        target = batch[k].rows[n].target_ids
        logit_rows.setdefault(k, []).extend(range(total, total + len(target)))
        targets.setdefault(k, []).append(target)
        total += len(target)
    losses = {}
    for k, own_rows in logit_rows.items():
        own_logits = logits if len(own_rows) == total else logits[own_rows]
        labels = batch[k].labels
        if labels is None or vocabulary is None:
            ids = torch.tensor([token for target in targets[k] for token in target], device=logits.device)
            losses[k] = torch.nn.functional.cross_entropy(own_logits, ids, reduction="sum")
        else:
            tokens = [(labels.ids.index(target), depth) for target in targets[k] for depth in range(len(target))]
            losses[k] = -labels.in_terms_of(vocabulary).log_probabilities(own_logits, tokens).sum()
    return losses
