"""``BaseModel``: a frozen language model in memory."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from softprompt_core.base_model.identity import BaseIdentity
from softprompt_core.base_model.limits import switches
from softprompt_core.base_model.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class BaseModel:
    """A frozen model in eval mode with its tokenizer.

    Attributes:
        kind: ``causal`` or ``encoder_decoder``.
        context: longest sequence in tokens, prompt included (of an encoder–decoder model the encoder's); None where the
            architecture sets no bound.
        answer_context: the same for a decoder of its own.
        embedding_scale: what the model multiplies embeddings by before its first layer, where it does so outside of them.
        device: where inputs go in; of a base that is spread over several devices the first.
        dtype: of embeddings and activations, also where the weights are quantised.
    """

    model: Any
    tokenizer: Any
    identity: BaseIdentity
    kind: Literal["causal", "encoder_decoder"]
    context: int | None
    device: torch.device
    dtype: torch.dtype
    answer_context: int | None = None
    embedding_scale: float = 1.0

    @property
    def hidden_size(self) -> int:
        return self.identity.hidden_size

    def embed(self, ids: Tensor) -> Tensor:
        """Embedding of token ids, ``[…] -> […, hidden]``, with the model's own scaling (Gemma multiplies inside the module)."""
        embedded: Tensor = self.model.get_input_embeddings()(ids.to(self.device))
        return embedded if self.embedding_scale == 1 else embedded * self.embedding_scale

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer as everything here uses it."""
        return Vocabulary.of(self.tokenizer, self.embedding_rows)

    @property
    def embedding_rows(self) -> int:
        """How many tokens the model has embeddings for."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    @functools.cached_property
    def embedding_rms(self) -> float:
        """Root mean square of an embedding's coordinates: the scale on which a soft prompt lives."""
        with torch.no_grad():
            sample = self.embed(torch.arange(min(self.embedding_rows, 20_000)))
        return float(sample.float().pow(2).mean().sqrt())

    @functools.cached_property
    def switches(self) -> tuple[int, ...]:
        """Lengths in tokens after which the model works otherwise, ascending."""
        return switches(self.model.config)

    def default_position(self) -> Literal["prefix", "suffix"]:
        return "suffix" if self.kind == "causal" else "prefix"
