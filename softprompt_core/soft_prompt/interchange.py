"""Other tools' formats: PEFT adapters (written and read) and ``.npy`` matrices as google-research/prompt-tuning releases them
(read)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softprompt_core.base_model.loading import BaseModel
from softprompt_core.errors import InvalidInput
from softprompt_core.json_files import parse_json
from softprompt_core.soft_prompt.tensor import FILE_NAME, SoftPrompt, read_header
from softprompt_core.text_files import read_text, require_regular

_PEFT_VERSION = "0.21.2"  # the version whose files these are equal to
_PEFT_TENSOR, _PEFT_CONFIG = "prompt_embeddings", "adapter_config.json"
_PEFT_FILES = ("adapter_model.safetensors", "adapter_model.bin")
_FLOATS = ("F64", "F32", "F16", "BF16")
_MAX_CONFIG = 1_000_000


def write_peft(prompt: SoftPrompt, base: BaseModel, folder: Path) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors`` so that ``PeftModel.from_pretrained`` loads ``folder``.

    Raises:
        InvalidInput: a suffix prompt; PEFT knows prefixes only.
    """
    if prompt.position != "prefix":
        raise InvalidInput("PEFT knows prefix prompts only", where=prompt.task, do="train with `prompt.position: prefix`")
    from safetensors.numpy import save_file

    text = base.model.config.get_text_config()

    def first(*names: str) -> int | None:
        return next((int(getattr(text, name)) for name in names if getattr(text, name, None)), None)

    config = dict(
        auto_mapping=None,
        base_model_name_or_path=prompt.base.id,
        inference_mode=True,
        modules_to_save=None,
        num_attention_heads=first("num_attention_heads", "n_head", "num_heads", "encoder_attention_heads"),
        num_layers=first("num_hidden_layers", "num_layers", "n_layer"),
        # 1 for encoder–decoder models too: the prompt belongs to the encoder, PEFT's default second half is never used.
        num_transformer_submodules=1,
        num_virtual_tokens=prompt.length,
        peft_type="PROMPT_TUNING",
        peft_version=_PEFT_VERSION,
        prompt_tuning_init="RANDOM",
        prompt_tuning_init_text=None,
        revision=prompt.base.revision,
        task_type="CAUSAL_LM" if base.kind == "causal" else "SEQ_2_SEQ_LM",
        token_dim=prompt.base.hidden_size,
        tokenizer_kwargs=None,
        tokenizer_name_or_path=None,
    )
    (folder / _PEFT_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True))
    save_file({_PEFT_TENSOR: prompt.weights.numpy()}, folder / _PEFT_FILES[0], metadata={"format": "pt"})


def read_start(path: Path, base: BaseModel) -> Tensor:
    """The vectors that a spec's ``prompt.file`` names, float32 ``[length, hidden]``.

    Args:
        path: a soft prompt of this library, a ``.npy`` matrix, or a PEFT adapter: the file or the folder that holds it.
        base: a soft prompt of this library must be of this base; the other formats do not tell theirs.

    Raises:
        InvalidInput: none of these, damaged, not finite, or of another base.
    """
    path = vectors_file(path)
    if path.suffix == ".npy":
        return read_npy(path)
    if path.name in _PEFT_FILES or path.suffix == ".bin" or _PEFT_TENSOR in read_header(path):
        return read_peft(path)
    prompt = SoftPrompt.load(path)
    prompt.require_base(base.identity)
    return prompt.weights


def vectors_file(path: Path) -> Path:
    """The file of vectors that a path names: itself, or the one in the folder of a version or a PEFT adapter.

    Raises:
        InvalidInput: a folder without one.
    """
    if not path.is_dir():
        return path
    found = next((path / name for name in (FILE_NAME, *_PEFT_FILES) if (path / name).is_file()), None)
    if found is None:
        problem = f"the folder holds neither {FILE_NAME} nor {_PEFT_FILES[0]}"
        raise InvalidInput(problem, where=str(path), do="name a soft prompt's file, or a PEFT adapter's folder")
    return found


def read_peft(path: Path) -> Tensor:
    """The vectors of a PEFT adapter made by prompt tuning or p-tuning, float32 ``[length, hidden]``.

    For encoder–decoder models PEFT may write as many vectors again, which it never uses; they are left out.

    Args:
        path: ``adapter_model.safetensors``; ``adapter_config.json`` beside it is read if it is there.

    Raises:
        InvalidInput: an adapter of another kind, a pickle, or vectors that are not finite numbers.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    remedy = "name a PEFT adapter that was made by prompt tuning and saved as safetensors"
    config = _peft_config(path.parent / _PEFT_CONFIG)
    kind = config.get("peft_type", "PROMPT_TUNING")
    if kind not in ("PROMPT_TUNING", "P_TUNING"):
        raise InvalidInput(f"is a PEFT adapter of the kind {kind}, which has no soft prompt", where=str(path), do=remedy)
    if path.suffix == ".bin":
        raise InvalidInput("is a pickle, which may run code and is not read", where=str(path), do=remedy)
    entry = read_header(path).get(_PEFT_TENSOR)
    shape = entry.get("shape") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(shape, list) or len(shape) != 2 or entry.get("dtype") not in _FLOATS:
        raise InvalidInput(f"holds no float matrix `{_PEFT_TENSOR}` [length, hidden]", where=str(path), do=remedy)
    try:
        weights = load_file(path)[_PEFT_TENSOR].float()
    except (ValueError, OSError, SafetensorError) as error:
        raise InvalidInput(f"is damaged: {error}", where=str(path), do=remedy) from None
    length = config.get("num_virtual_tokens")
    if isinstance(length, int) and len(weights) == 2 * length:
        weights = weights[:length].clone()
    if not torch.isfinite(weights).all():
        raise InvalidInput("holds NaN or infinite values", where=str(path), do=remedy)
    return weights


def _peft_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        config = parse_json(read_text(path, "file", max_bytes=_MAX_CONFIG))
    except ValueError as error:
        raise InvalidInput(f"is not valid JSON: {error}", where=str(path), do="save the adapter again") from None
    if not isinstance(config, dict):
        raise InvalidInput("is no JSON object", where=str(path), do="save the adapter again")
    return config


def read_npy(path: Path) -> Tensor:
    """Read a ``[length, hidden]`` matrix as float32 (float64 is accepted). Pickled arrays are refused.

    Raises:
        InvalidInput: missing, not a plain ``.npy`` file, not a float matrix, or not finite.
    """
    remedy = "use a .npy file of one float matrix [length, hidden]"
    require_regular(path)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: a header may promise more than any memory holds
    except FileNotFoundError:
        raise InvalidInput("no such file", where=str(path), do="check the path") from None
    except Exception as error:  # whatever numpy raises for a file's bytes, it is the file that cannot be read
        raise InvalidInput(f"cannot be read as .npy: {error}", where=str(path), do=remedy) from None
    if not isinstance(array, np.ndarray):
        raise InvalidInput("is an archive of several arrays", where=str(path), do=remedy)
    if array.ndim != 2 or array.dtype not in (np.float32, np.float64):
        raise InvalidInput(f"holds {array.dtype} {list(array.shape)}", where=str(path), do=remedy)
    if not np.isfinite(array).all():
        raise InvalidInput("holds NaN or infinite values", where=str(path), do=remedy)
    return torch.from_numpy(array.astype(np.float32))
