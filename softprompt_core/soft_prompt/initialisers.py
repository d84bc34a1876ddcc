"""Where the vectors start. The choice decides much on small models (Lester et al. 2021, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from softprompt_core.base_model.loading import BaseModel
from softprompt_core.errors import InvalidInput
from softprompt_core.spec import PromptConfig

# The paper samples from the 5,000 most common tokens. Common is counted on the task's own training inputs here, because
# only some tokenizers list their vocabulary by frequency.
_FREQUENT = 5000


def initial_weights(
    config: PromptConfig,
    base: BaseModel,
    *,
    seed: int,
    label_ids: Sequence[Sequence[int]] = (),
    frequent_ids: Sequence[int] = (),
    given: Tensor | None = None,
) -> Tensor:
    """The starting matrix, float32 ``[length, hidden]`` on the CPU.

    Args:
        label_ids: token ids of every label word (``init: labels``).
        frequent_ids: token ids of the training inputs, most frequent first; the first 5,000 are sampled.
        given: the matrix of the champion or of a file (``init: champion | file``).

    Raises:
        InvalidInput: ``given`` has another shape, or ``text`` has no tokens.
    """
    generator = torch.Generator().manual_seed(seed)
    if config.init in ("champion", "file") and given is not None:
        if list(given.shape) != [config.length, base.hidden_size]:
            raise InvalidInput(
                f"the starting prompt is {list(given.shape)}, but [{config.length}, {base.hidden_size}] is needed",
                where=f"prompt.init: {config.init}",
                do=f"set prompt.length to {given.shape[0]}, or start from another prompt",
            )
        return given.detach().float().clone()
    if config.init == "uniform":
        # The paper's [-0.5, 0.5] suits T5's embeddings; here the spread is that of this base's own embeddings.
        bound = 3**0.5 * base.embedding_rms
        return (torch.rand(config.length, base.hidden_size, generator=generator) * 2 - 1) * bound
    rows: list[Tensor] = []
    if config.init == "labels":
        rows = [_embeddings(base, ids).mean(dim=0, keepdim=True) for ids in label_ids if ids]
    elif config.init == "text":
        (ids,) = base.vocabulary.encode([config.text or ""])
        if not ids:
            raise InvalidInput("the text has no tokens", where="prompt.text", do="write some words")
        rows = [_embeddings(base, ids)]
    start = torch.cat(rows)[: config.length] if rows else torch.empty(0, base.hidden_size)
    missing = config.length - len(start)
    return torch.cat([start, _sampled(base, missing, frequent_ids, generator)]) if missing else start


def _sampled(base: BaseModel, count: int, frequent_ids: Sequence[int], generator: torch.Generator) -> Tensor:
    """Embeddings of ``count`` frequent tokens, drawn without replacement while there are enough."""
    special = set(base.tokenizer.all_special_ids)
    pool = [i for i in frequent_ids if i not in special][:_FREQUENT]
    if len(pool) < count:
        pool += [i for i in range(min(base.embedding_rows, _FREQUENT)) if i not in special and i not in set(pool)]
    order = torch.randperm(len(pool), generator=generator)
    chosen = [pool[int(order[i % len(pool)])] for i in range(count)]
    return _embeddings(base, chosen)


def _embeddings(base: BaseModel, ids: Sequence[int]) -> Tensor:
    with torch.no_grad():
        return base.embed(torch.tensor(list(ids))).float().cpu()
