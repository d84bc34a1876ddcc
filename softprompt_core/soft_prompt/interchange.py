"""Other tools' formats: PEFT folders (written) and ``.npy`` matrices as google-research/prompt-tuning releases them (read)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from softprompt_core.base_model.loading import BaseModel
from softprompt_core.errors import InvalidInput
from softprompt_core.soft_prompt.tensor import SoftPrompt

_PEFT_VERSION = "0.21.2"  # the version whose files these are equal to


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
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
    save_file({"prompt_embeddings": prompt.weights.numpy()}, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def read_npy(path: Path) -> Tensor:
    """Read a ``[length, hidden]`` matrix as float32 (float64 is accepted). Pickled arrays are refused.

    Raises:
        InvalidInput: missing, not a plain ``.npy`` file, not a float matrix, or not finite.
    """
    remedy = "use a .npy file of one float matrix [length, hidden]"
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InvalidInput("no such file", where=str(path), do="check the path") from None
    except (ValueError, OSError, EOFError) as error:
        raise InvalidInput(f"cannot be read as .npy: {error}", where=str(path), do=remedy) from None
    if array.ndim != 2 or array.dtype not in (np.float32, np.float64):
        raise InvalidInput(f"holds {array.dtype} {list(array.shape)}", where=str(path), do=remedy)
    if not np.isfinite(array).all():
        raise InvalidInput("holds NaN or infinite values", where=str(path), do=remedy)
    return torch.from_numpy(array.astype(np.float32))
