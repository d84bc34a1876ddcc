"""Losses and gradients of one batch that mixes rows of several prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from softprompt_core.encoding import Row
from softprompt_core.forward import Engine
from softprompt_core.forward.layout import ENOUGH, batches
from softprompt_core.label_words import LabelTokens
from softprompt_core.training import data_parallel


@dataclass(frozen=True, eq=False)
class Share:
    """One prompt's part of a batch. ``places``: where the rows' inputs stand in the engine."""

    prompt: Tensor
    rows: Sequence[Row]
    places: Sequence[int]
    labels: LabelTokens | None


def backward(engine: Engine, batch: Sequence[Share], rows_at_once: int) -> list[float]:
    """Add each prompt's gradient of its own mean loss to ``prompt.grad``; returns the losses in nats.

    The mean is over rows for classification (loss over the labels) and over target tokens for generation, each prompt by itself,
    so that a batch of many prompts is the same as many batches of one.

    Args:
        rows_at_once: rows, of whichever prompts, that run together. More cost memory.
    """
    prompts, carry = engine.for_step([share.prompt for share in batch])
    losses = [torch.zeros((), device=share.prompt.device) for share in batch]
    weights = [1 / _count(share) for share in batch]
    for ranked in (True, False):
        queries = [
            (k, n) for k, share in enumerate(batch) if (share.labels is not None) is ranked for n in range(len(share.rows))
        ]
        # Rows of all prompts by length, so that little padding is computed.
        queries = list(data_parallel.share(sorted(queries, key=lambda q: len(batch[q[0]].rows[q[1]].input_ids))))
        vocabulary = sorted({t for share in batch if share.labels is not None for t in share.labels.tokens}) if ranked else None
        for part in _parts(engine, batch, queries, rows_at_once):
            targets = [batch[k].rows[n].target_ids for k, n in part]
            places = [batch[k].places[n] for k, n in part]
            logits = engine.target_logits(prompts, [k for k, _ in part], places, targets, vocabulary)
            found = _row_losses(logits, batch, part, vocabulary)
            total = sum((loss * weights[k] for k, loss in found.items()), start=logits.new_zeros(()))
            total.backward()
            for k, loss in found.items():
                losses[k] += loss.detach().to(losses[k].device) * weights[k]
    carry()
    for share in batch:  # a process may have no row of a prompt
        share.prompt.grad = torch.zeros_like(share.prompt) if share.prompt.grad is None else share.prompt.grad
    data_parallel.add_up([*(share.prompt.grad for share in batch if share.prompt.grad is not None), *losses])
    return [float(loss) for loss in losses]


def _parts(
    engine: Engine, batch: Sequence[Share], queries: Sequence[tuple[int, int]], rows_at_once: int
) -> list[list[tuple[int, int]]]:
    """Queries in parts of similar length: little padding, and on a CPU what a layer makes of a part stays in its cache.

    Elsewhere a part is as large as memory allows: as ``rows_at_once`` rows of the widest of the prompts' own batches.
    """
    lengths = [len(batch[k].rows[n].input_ids) for k, n in queries]
    tokens = ENOUGH
    if engine.base.device.type != "cpu":
        widest = max(len(share.rows) * max(len(row.input_ids) for row in share.rows) for share in batch)
        tokens = widest * rows_at_once // max(len(share.rows) for share in batch)
    return [[queries[i] for i in part] for part in batches(lengths, tokens=tokens, rows=rows_at_once, enough=tokens)]


def _count(share: Share) -> int:
    return len(share.rows) if share.labels is not None else sum(len(row.target_ids) for row in share.rows)


def _row_losses(
    logits: Tensor, batch: Sequence[Share], part: Sequence[tuple[int, int]], vocabulary: Sequence[int] | None
) -> dict[int, Tensor]:
    """Summed loss of each prompt that has rows in this part."""
    places: dict[int, list[int]] = {}  # a prompt's rows of logits
    answers: dict[int, list[tuple[int, ...]]] = {}
    at = 0
    for k, n in part:
        target = batch[k].rows[n].target_ids
        places.setdefault(k, []).extend(range(at, at + len(target)))
        answers.setdefault(k, []).append(target)
        at += len(target)
    found = {}
    for k, mine in places.items():
        some = logits if len(mine) == at else logits[mine]
        labels = batch[k].labels
        if labels is None or vocabulary is None:
            ids = torch.tensor([token for target in answers[k] for token in target], device=logits.device)
            found[k] = torch.nn.functional.cross_entropy(some, ids, reduction="sum")
        else:
            tokens = [(labels.ids.index(target), place) for target in answers[k] for place in range(len(target))]
            found[k] = -labels.in_terms_of(vocabulary).log_probabilities(some, tokens).sum()
    return found
