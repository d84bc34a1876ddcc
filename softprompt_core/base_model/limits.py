"""How many positions a model has, by its config and its tables of learned positions; and after how many it works otherwise."""

from __future__ import annotations

import re
from typing import Any

import torch

_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len")
_ENCODER = ("max_encoder_position_embeddings", "max_source_positions", *_NAMES)
_SWITCHES = {"sliding_window", "window_size", "attention_window", "attention_window_size", "local_attention", "local_radius"}
_SWITCHES |= {"attention_chunk_size", "original_max_position_embeddings"}
_DECODER = ("max_decoder_position_embeddings", "max_target_positions", *_NAMES)


def context(model: Any) -> int | None:
    """Longest sequence in tokens, of an encoder–decoder model its encoder's; None where the architecture sets no bound."""
    if not model.config.is_encoder_decoder:
        return _bound(model, _NAMES)
    bound = _bound(model, _ENCODER, without="decoder")
    window = getattr(model.config, "attention_window", None)  # LED fills a text up to whole windows, which must fit as well
    if bound is None or window is None:
        return bound
    width = max(window) if isinstance(window, (list, tuple)) else window
    return max(bound // width, 1) * width


def answer_context(model: Any) -> int | None:
    """Longest sequence of a decoder that has an encoder beside it."""
    return _bound(model, _DECODER, without="encoder") if model.config.is_encoder_decoder else None


def switches(config: Any) -> tuple[int, ...]:
    """Lengths in tokens after which a model works otherwise, ascending: windows of attention, other rotary frequencies."""
    found: set[int] = set()

    def look(values: dict[str, Any]) -> None:
        for name, value in values.items():
            each = value if isinstance(value, (list, tuple)) else [value]
            found.update(length for length in each if name in _SWITCHES and type(length) is int and length > 0)
            if isinstance(value, dict):
                look(value)

    look(config.to_dict())
    return tuple(sorted(found))


def _bound(model: Any, names: tuple[str, ...], without: str | None = None) -> int | None:
    """``without``: the side of the model whose tables do not count."""
    config = model.config.get_text_config()
    # T5 and its kin have relative positions: what their config may still name is no bound.
    claimed = None if hasattr(config, "relative_attention_num_buckets") else _first(config, names)
    bounds = [claimed] if claimed else []
    for path, module in model.named_modules():
        if without is not None and without in path:
            continue
        if isinstance(module, torch.nn.Embedding) and re.search(r"pos|wpe", path.rpartition(".")[2]):
            bounds.append(module.num_embeddings - _first_position(module))
    return min(bounds, default=None)  # BLOOM has ALiBi and none


def _first(config: Any, names: tuple[str, ...]) -> int | None:
    return next((value for name in names if isinstance(value := getattr(config, name, None), int) and value > 0), None)


def _first_position(table: Any) -> int:
    """The row of the first token: BART and OPT leave two free, RoBERTa those up to the padding's."""
    offset = getattr(table, "offset", None)
    return int(offset) if offset is not None else 0 if table.padding_idx is None else table.padding_idx + 1
