"""Text after a soft prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from softprompt_core.base_model.checking import REFUSALS
from softprompt_core.errors import InvalidInput
from softprompt_core.forward.engine import Engine
from softprompt_core.forward.layout import Piece, batches, pack
from softprompt_core.forward.prompts import Prompts


@torch.no_grad()
def generate(engine: Engine, prompt: Tensor | None, *, max_new_tokens: int, num_beams: int = 1) -> list[str]:
    """Greedy (``num_beams`` 1) or beam-search answers to all inputs, in their order, control tokens removed.

    Greedy answers of a causal model continue from the cache of prompt and input, beams are the model library's; settings that
    came with the model play no part. On the slow path every row is written by itself.

    Raises:
        InvalidInput: this architecture cannot search with beams.
    """
    base, prompts = engine.base, engine.prompts([prompt], answer=max_new_tokens)
    answers = [""] * len(engine.inputs)
    for group in batches([len(ids) + prompts.columns(0) for ids in engine.inputs], tokens=8192, rows=64):
        if engine.reason:
            ids: Any = [_row_by_itself(engine, prompts, row, max_new_tokens, num_beams) for row in group]
        elif base.kind == "causal" and num_beams == 1:
            ids = _greedy(engine, prompts, group, max_new_tokens)
        else:
            ids = _library_generate(engine, prompts, group, max_new_tokens, num_beams)
        # Blanks before punctuation stay: they were trained, and gold answers have them.
        texts = base.tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for index, text in zip(group, texts, strict=True):
            answers[index] = text.strip()
    return answers


def _row_by_itself(engine: Engine, prompts: Prompts, row: int, max_new_tokens: int, num_beams: int) -> list[int]:
    written: list[int] = []
    if num_beams > 1:
        written = _library_generate(engine, prompts, [row], max_new_tokens, num_beams)[0].tolist()
        return written
    while len(written) < max_new_tokens and written[-1:] != [engine.base.vocabulary.end]:
        logits = engine.target_logits(prompts, [0], [row], [(*written, 0)])
        written.append(int(logits[-1].argmax()))
    return written


def _greedy(engine: Engine, prompts: Prompts, rows: Sequence[int], max_new_tokens: int) -> list[list[int]]:
    end = engine.base.vocabulary.end
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
    base, end, pad = engine.base, engine.base.vocabulary.end, engine.base.tokenizer.pad_token_id
    if pad is None or pad >= base.embedding_rows:  # rows that have ended are filled with it
        pad = end or 0
    if base.kind == "encoder_decoder":
        embedded, mask = engine.encoder_batch(prompts, [0] * len(rows), rows)
    else:
        embedded, mask = _left_padded(engine, prompts, rows)
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens, num_beams=num_beams, do_sample=False, eos_token_id=end, pad_token_id=pad
    )
    try:
        ids: Tensor = base.model.generate(inputs_embeds=embedded, attention_mask=mask, generation_config=settings)
    except REFUSALS as error:
        raise InvalidInput(
            f"{base.identity.id} cannot write text so ({type(error).__name__}: {error})",
            where=f"evaluation.num_beams: {num_beams}",
            do="leave it at 1" if num_beams > 1 else "use another base",
        ) from None
    return ids


def _left_padded(engine: Engine, prompts: Prompts, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Embedded ``[B, T, H]`` and mask with padding on the left: ``generate`` appends on the right."""
    pieces: list[list[Piece]] = [[0, engine.inputs[i]] if engine.position == "prefix" else [engine.inputs[i], 0] for i in rows]
    embedded, mask = pack(engine.base, prompts.vectors, prompts.lengths, pieces)
    shifts = (mask == 0).sum(dim=1).tolist()
    rolled = [(row.roll(shift, 0), flags.roll(shift, 0)) for row, flags, shift in zip(embedded, mask, shifts, strict=True)]
    return torch.stack([row for row, _ in rolled]), torch.stack([flags for _, flags in rolled])
