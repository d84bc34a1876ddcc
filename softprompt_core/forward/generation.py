"""Text after a soft prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from softprompt_core.forward.engine import Engine
from softprompt_core.forward.layout import Piece, batches, pack
from softprompt_core.forward.prompts import Prompts


@torch.no_grad()
def generate(engine: Engine, prompt: Tensor | None, *, max_new_tokens: int, num_beams: int = 1) -> list[str]:
    """Greedy (``num_beams`` 1) or beam-search answers to all inputs, in their order, special tokens removed.

    Greedy answers of a causal model continue from the cache of prompt and input; all else is the model library's ``generate``.
    """
    base, prompts = engine.base, engine.prompts([prompt])
    answers = [""] * len(engine.inputs)
    greedy = base.kind == "causal" and num_beams == 1 and not engine.reason
    for group in batches([len(ids) + prompts.columns(0) for ids in engine.inputs], tokens=8192, rows=64):
        if greedy:
            ids: Any = _greedy(engine, prompts, group, max_new_tokens)
        else:
            ids = _library_generate(engine, prompts, group, max_new_tokens, num_beams)
        for index, text in zip(group, base.tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
            answers[index] = text.strip()
    return answers


def _greedy(engine: Engine, prompts: Prompts, rows: Sequence[int], max_new_tokens: int) -> list[list[int]]:
    end = engine.base.tokenizer.eos_token_id
    written: list[list[int]] = [[] for _ in rows]
    logits, cache = engine.prefill(prompts, [0] * len(rows), rows)
    unfinished = list(range(len(rows)))
    for step in range(max_new_tokens):
        chosen = logits.argmax(dim=1).tolist()
        for row, token in zip(unfinished, chosen, strict=True):
            written[row].append(token)
        going_on = [n for n, token in enumerate(chosen) if token != end]
        if not going_on or step + 1 == max_new_tokens:
            break
        if len(going_on) < len(unfinished):
            cache = cache.select(going_on)
            unfinished, chosen = [unfinished[n] for n in going_on], [chosen[n] for n in going_on]
        logits, cache = engine.decode_step(cache, chosen)
    return written


def _library_generate(engine: Engine, prompts: Prompts, rows: Sequence[int], max_new_tokens: int, num_beams: int) -> Tensor:
    base, end, pad = engine.base, engine.base.tokenizer.eos_token_id, engine.base.tokenizer.pad_token_id
    if base.kind == "encoder_decoder":
        embedded, mask = engine.encoder_batch(prompts, [0] * len(rows), rows)
    else:
        embedded, mask = _left_padded(engine, prompts, rows)
    ids: Tensor = base.model.generate(
        inputs_embeds=embedded,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        num_beams=num_beams,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=end if pad is None else pad,
    )
    return ids


def _left_padded(engine: Engine, prompts: Prompts, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Embedded ``[B, T, H]`` and mask with padding on the left: ``generate`` appends on the right."""
    pieces: list[list[Piece]] = [[0, engine.inputs[i]] if engine.position == "prefix" else [engine.inputs[i], 0] for i in rows]
    embedded, mask = pack(engine.base, prompts.vectors, prompts.lengths, pieces)
    shifts = (mask == 0).sum(dim=1).tolist()
    rolled = [(row.roll(shift, 0), flags.roll(shift, 0)) for row, flags, shift in zip(embedded, mask, shifts, strict=True)]
    return torch.stack([row for row, _ in rolled]), torch.stack([flags for _, flags in rolled])
