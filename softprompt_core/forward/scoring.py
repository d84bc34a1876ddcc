"""Label ranking, and the loss of gold answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from softprompt_core.encoding import Row
from softprompt_core.forward.causal import run
from softprompt_core.forward.engine import Engine
from softprompt_core.forward.layout import batches, pad_right
from softprompt_core.forward.plain import plain_target_logits, shift_right
from softprompt_core.label_words import LabelTokens

_TOKENS, _ROWS = 16_384, 256
_Continue = Callable[[tuple[Tensor, Tensor]], Tensor]
_LABEL_ROWS = 1024  # rows x labels that continue at once; each holds a copy of its row's keys and values


@torch.no_grad()
def label_scores(engine: Engine, prompt: Tensor | None, labels: LabelTokens, indices: Sequence[int] | None = None) -> Tensor:
    """Log-probability of every label after every input (see ``label_words``): float32 ``[rows, L]`` on the CPU.

    The input runs once; only labels that begin alike are continued from its memory.
    """
    chosen = list(range(len(engine.inputs))) if indices is None else list(indices)
    several = sum(len(ids) > 1 for ids in labels.ids)
    rows = max(1, min(_ROWS, _LABEL_ROWS // several)) if several else _ROWS
    result = torch.empty(len(chosen), len(labels))
    extra = 0 if prompt is None else len(prompt)
    for group in batches([len(engine.inputs[i]) + extra for i in chosen], tokens=_TOKENS, rows=rows):
        result[group] = _scores(engine, prompt, labels, [chosen[g] for g in group]).cpu()
    return result


def _scores(engine: Engine, prompt: Tensor | None, labels: LabelTokens, indices: Sequence[int]) -> Tensor:
    count, base = len(labels), engine.base
    if engine.reason:  # no fast path for this base
        rows = [Row(engine.inputs[i], ids) for i in indices for ids in labels.ids]
        plain = plain_target_logits(base, prompt, engine.position, rows)
        return _summed(labels, plain, list(range(count)) * len(indices)).view(-1, count)
    first, continued = _first_token(engine, prompt, indices)
    roots = sorted({ids[0] for ids in labels.ids})
    among_roots = first[:, roots].log_softmax(dim=1)
    scores = among_roots[:, [roots.index(ids[0]) for ids in labels.ids]]
    long = [n for n, ids in enumerate(labels.ids) if len(ids) > 1]
    if long:
        logits = continued(pad_right([labels.ids[n] for n in long]))  # [rows x long, longest - 1, V]
        parts = [row[: len(labels.ids[n]) - 1] for row, n in zip(logits, long * len(indices), strict=True)]
        scores[:, long] += _summed(labels, parts, long * len(indices), start=1).view(-1, len(long))
    return scores


def _first_token(engine: Engine, prompt: Tensor | None, indices: Sequence[int]) -> tuple[Tensor, _Continue]:
    """Logits ``[B, V]`` of the answer's first token, and a function that continues every row with each of several labels.

    The function takes padded ids and mask ``[n, T]`` and returns logits ``[B x n, T - 1, V]`` of all tokens but the first.
    """
    base, rows = engine.base, len(indices)
    if base.kind == "encoder_decoder":
        embedded, mask = engine.encoder_batch(prompt, indices)
        states = base.model.get_encoder()(inputs_embeds=embedded, attention_mask=mask).last_hidden_state

        def decode(states: Tensor, mask: Tensor, ids: Tensor) -> Tensor:
            fed = shift_right(base, ids)
            logits: Tensor = base.model(encoder_outputs=(states,), attention_mask=mask, decoder_input_ids=fed).logits
            return logits.float()

        def more(labels: tuple[Tensor, Tensor]) -> Tensor:
            ids = labels[0].to(base.device)
            return decode(states.repeat_interleave(len(ids), 0), mask.repeat_interleave(len(ids), 0), ids.repeat(rows, 1))[:, 1:]

        return decode(states, mask, torch.zeros(rows, 1, dtype=torch.long, device=base.device))[:, 0], more
    first, memory = engine.state(prompt, indices)

    def go_on(labels: tuple[Tensor, Tensor]) -> Tensor:
        ids, real = labels[0].to(base.device), labels[1].to(base.device)
        fed = base.embed(ids[:, :-1]).repeat(rows, 1, 1)
        logits, _ = run(base, memory.repeat(len(ids)), fed, real[:, :-1].repeat(rows, 1), keep=ids.shape[1] - 1)
        return logits.float()

    return first, go_on


def _summed(labels: LabelTokens, logits: Sequence[Tensor], which: Sequence[int], start: int = 0) -> Tensor:
    """Sum of a label's token log-probabilities from position ``start`` on, ``[N]``; ``logits``: ``[tokens, V]`` a label."""
    tokens = [(label, start + place) for label, part in zip(which, logits, strict=True) for place in range(len(part))]
    flat = labels.log_probabilities(torch.cat(list(logits)), tokens)
    return torch.stack([part.sum() for part in flat.split([len(part) for part in logits])])


@torch.no_grad()
def target_losses(engine: Engine, prompt: Tensor | None, targets: Sequence[tuple[int, ...]]) -> Tensor:
    """Mean negative log-probability per token of each row's gold answer, nats, float32 ``[rows]`` on the CPU."""
    result = torch.empty(len(targets))
    extra = 0 if prompt is None else len(prompt)
    lengths = [len(engine.inputs[i]) + extra + len(targets[i]) for i in range(len(targets))]
    for group in batches(lengths, tokens=_TOKENS // 2, rows=64):
        logits, ids = engine.target_logits(prompt, group, [targets[i] for i in group])
        losses = -logits.log_softmax(dim=-1).gather(-1, ids[:, None])[:, 0]
        parts = losses.split([len(targets[i]) for i in group])
        result[group] = torch.stack([part.mean() for part in parts]).cpu()
    return result
