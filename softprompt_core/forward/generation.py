"""Text after a soft prompt, through the model library's own ``generate``."""

from __future__ import annotations

import torch
from torch import Tensor

from softprompt_core.forward.engine import Engine
from softprompt_core.forward.layout import batches, pad_left


@torch.no_grad()
def generate(engine: Engine, prompt: Tensor | None, *, max_new_tokens: int, num_beams: int = 1) -> list[str]:
    """Greedy (``num_beams`` 1) or beam-search answers to all inputs, in their order, special tokens removed."""
    base = engine.base
    answers = [""] * len(engine.inputs)
    extra = 0 if prompt is None else len(prompt)
    end = base.tokenizer.eos_token_id
    for group in batches([len(ids) + extra for ids in engine.inputs], tokens=8192, rows=64):
        embedded, mask = _inputs(engine, prompt, group)
        ids = base.model.generate(
            inputs_embeds=embedded,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            num_beams=num_beams,
            do_sample=False,
            eos_token_id=end,
            pad_token_id=base.tokenizer.pad_token_id if base.tokenizer.pad_token_id is not None else end,
        )
        for index, text in zip(group, base.tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
            answers[index] = text.strip()
    return answers


def _inputs(engine: Engine, prompt: Tensor | None, indices: list[int]) -> tuple[Tensor, Tensor]:
    """Embedded ``[B, T, H]`` and mask. Padding stands at the very left: ``generate`` appends on the right."""
    if engine.base.kind == "encoder_decoder":
        return engine.encoder_batch(prompt, indices)
    base = engine.base
    rows = [base.embed(torch.tensor(engine.inputs[i], dtype=torch.long)) for i in indices]
    if prompt is not None:
        soft = prompt.to(base.device).to(base.dtype)
        rows = [torch.cat([soft, row] if engine.position == "prefix" else [row, soft]) for row in rows]
    _, mask = pad_left([[1] * len(row) for row in rows])
    embedded = rows[0].new_zeros(len(rows), mask.shape[1], rows[0].shape[1])
    for place, row in enumerate(rows):
        embedded[place, mask.shape[1] - len(row) :] = row
    return embedded, mask.to(base.device)
