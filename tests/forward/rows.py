"""What the tests of the forward paths run: a few rows of different lengths, labels that begin alike, prompts of two lengths."""

from __future__ import annotations

import torch
from torch import Tensor

from softprompt_core.base_model.label_tree import LabelTree
from softprompt_core.base_model.loading import BaseModel
from softprompt_core.base_model.tokens import TokenizedRow

ROWS = [
    TokenizedRow((1, 40, 41, 42, 43, 44, 45, 46, 47, 48), (60,)),
    TokenizedRow((1, 90), (61, 62, 63)),
    TokenizedRow((1, 100, 101, 102), (64, 65)),
]
INPUTS = [row.input_ids for row in ROWS]
TARGETS = [row.target_ids for row in ROWS]
IDS = torch.tensor([token for target in TARGETS for token in target])
WHOLE = ((60,), (61, 62), (61, 63, 64), (61, 63, 65, 67), (66, 2))
LABELS = LabelTree.from_ids(WHOLE)


def soft(base: BaseModel, length: int = 5, seed: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(length, base.hidden_size, generator=generator) * base.embedding_rms).requires_grad_()
