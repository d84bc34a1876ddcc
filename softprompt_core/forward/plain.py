"""The readable reference of prompt tuning; every fast path must equal it.

    causal, prefix:   [prompt][input][target]       the loss looks at the target's tokens only
    causal, suffix:   [input][prompt][target]
    encoder–decoder:  encoder reads [prompt][input] (or [input][prompt]), decoder writes [target]

One row at a time, no padding, no cache: what stands here is what the method means (Lester et al. 2021, section 2).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from softprompt_core.base_model.loading import BaseModel
from softprompt_core.base_model.tokens import TokenizedRow


def plain_target_logits(base: BaseModel, prompt: Tensor | None, position: str, rows: Sequence[TokenizedRow]) -> list[Tensor]:
    """Logits that predict each target token, one ``[target tokens, V]`` tensor a row, in float32.

    Args:
        prompt: ``[P, H]``, or None for the bare model.
        position: ``prefix`` or ``suffix``.
    """
    results = []
    for row in rows:
        parts = [base.embed(torch.tensor(row.input_ids, dtype=torch.long))]
        if prompt is not None:
            soft = prompt.to(parts[0].dtype).to(base.device)
            parts.insert(0 if position == "prefix" else 1, soft)
        target = torch.tensor(row.target_ids, dtype=torch.long, device=base.device)
        if base.kind == "causal":
            parts.append(base.embed(target[:-1]))
            embedded = torch.cat(parts)[None]
            logits = base.model(inputs_embeds=embedded, use_cache=False).logits[0, -len(target) :]
        else:
            logits = base.model(inputs_embeds=torch.cat(parts)[None], decoder_input_ids=shift_right(base, target[None])).logits[0]
        results.append(logits.float())
    return results


def shift_right(base: BaseModel, targets: Tensor) -> Tensor:
    """Decoder inputs of ``targets`` ``[B, T]``: the start token, then all but the last."""
    start = base.model.config.decoder_start_token_id
    return torch.cat([torch.full_like(targets[:, :1], start), targets[:, :-1]], dim=1)
