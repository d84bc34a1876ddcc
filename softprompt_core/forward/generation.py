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

    Greedy answers of a causal model go on from the memory of prompt and input; all else is the model library's ``generate``.
    """
    base, prompts = engine.base, engine.prompts([prompt])
    answers = [""] * len(engine.inputs)
    greedy = base.kind == "causal" and num_beams == 1 and not engine.reason
    for group in batches([len(ids) + prompts.columns(0) for ids in engine.inputs], tokens=8192, rows=64):
        ids = (
            _greedy(engine, prompts, group, max_new_tokens)
            if greedy
            else _library(engine, prompts, group, max_new_tokens, num_beams)
        )
        for index, text in zip(group, base.tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
            answers[index] = text.strip()
    return answers


def _greedy(engine: Engine, prompts: Prompts, rows: Sequence[int], max_new_tokens: int) -> list[list[int]]:
    end = engine.base.tokenizer.eos_token_id
    written: list[list[int]] = [[] for _ in rows]
    logits, memory = engine.state(prompts, [0] * len(rows), rows)
    open_rows = list(range(len(rows)))
    for step in range(max_new_tokens):
        chosen = logits.argmax(dim=1).tolist()
        for row, token in zip(open_rows, chosen, strict=True):
            written[row].append(token)
        left = [n for n, token in enumerate(chosen) if token != end]
        if not left or step + 1 == max_new_tokens:
            break
        if len(left) < len(open_rows):
            memory, open_rows, chosen = memory.take(left), [open_rows[n] for n in left], [chosen[n] for n in left]
        logits, memory = engine.next_token(memory, chosen)
    return written


def _library(engine: Engine, prompts: Prompts, rows: Sequence[int], max_new_tokens: int, num_beams: int) -> Any:
    base, end = engine.base, engine.base.tokenizer.eos_token_id
    of = [0] * len(rows)
    embedded, mask = engine.encoder_batch(prompts, of, rows) if base.kind == "encoder_decoder" else _left(engine, prompts, rows)
    return base.model.generate(
        inputs_embeds=embedded,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        num_beams=num_beams,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=base.tokenizer.pad_token_id if base.tokenizer.pad_token_id is not None else end,
    )


def _left(engine: Engine, prompts: Prompts, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Embedded ``[B, T, H]`` and mask with padding at the very left: ``generate`` appends on the right."""
    pieces: list[list[Piece]] = [[0, engine.inputs[i]] if engine.position == "prefix" else [engine.inputs[i], 0] for i in rows]
    embedded, mask = pack(engine.base, prompts.vectors, prompts.lengths, pieces)
    shifts = (mask == 0).sum(dim=1).tolist()
    rolled = [(row.roll(shift, 0), flags.roll(shift, 0)) for row, flags, shift in zip(embedded, mask, shifts, strict=True)]
    return torch.stack([row for row, _ in rolled]), torch.stack([flags for _, flags in rolled])
