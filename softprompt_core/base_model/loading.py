"""Load and freeze a base language model, whole on one device, quantised, or spread over several."""

from __future__ import annotations

import functools
import importlib.util
import json
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from softprompt_core.base_model.identity import BaseIdentity, identify, read_config, resolve
from softprompt_core.errors import InvalidInput, Unavailable
from softprompt_core.spec import BaseModelSpec

_LOAD_LOCK = threading.Lock()  # two flow threads must not load the same weights twice


@dataclass(frozen=True, eq=False)
class BaseModel:
    """A frozen model in eval mode with its tokenizer.

    Attributes:
        kind: ``causal`` or ``encoder_decoder``.
        context: longest sequence in tokens, prompt included; None where the architecture sets no bound.
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

    @property
    def hidden_size(self) -> int:
        return self.identity.hidden_size

    def embed(self, ids: Tensor) -> Tensor:
        """Embedding of token ids, ``[…] -> […, hidden]``, with the model's own scaling (Gemma multiplies inside the module)."""
        embedded: Tensor = self.model.get_input_embeddings()(ids.to(self.device))
        return embedded

    @functools.cached_property
    def embedding_rms(self) -> float:
        """Root mean square of an embedding's coordinates: the scale on which a soft prompt lives."""
        with torch.no_grad():
            sample = self.embed(torch.arange(min(self.model.config.get_text_config().vocab_size, 20_000)))
        return float(sample.float().pow(2).mean().sqrt())

    def default_position(self) -> Literal["prefix", "suffix"]:
        return "suffix" if self.kind == "causal" else "prefix"


def load_base(spec: BaseModelSpec) -> BaseModel:
    """Load the frozen base once a process; further calls with the same content, dtype and place return the same object.

    Raises:
        InvalidInput: folder, weights, config or tokenizer missing or unusable; float16 asked for a T5 model; a package that
            quantisation or a device map needs is not installed.
        Unavailable: the hub cannot be reached; the device asked for is not there.
    """
    folder, _ = resolve(spec)
    device = _device(spec.device)
    identity = identify(spec)
    for setting, package in (("quantization", "bitsandbytes"), ("quantization", "accelerate"), ("device_map", "accelerate")):
        if getattr(spec, setting) is not None and importlib.util.find_spec(package) is None:
            raise InvalidInput(
                f"this needs the package {package}",
                where=f"base_model.{setting}",
                do="pip install 'softprompt-lifecycle[large]'",
            )
    wish = None if spec.device_map is None else json.dumps(spec.device_map, sort_keys=True)
    with _LOAD_LOCK:
        return _load(identity, str(folder), device.type, _dtype(spec.dtype, device), spec.quantization, wish)


def loads() -> int:
    """How often this process has loaded a base, or tried to."""
    return _load.cache_info().misses


def _device(wish: str) -> torch.device:
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wish == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if present[name]))
    if not present[wish]:
        have = ", ".join(name for name, there in present.items() if there)
        raise Unavailable(f"there is no {wish} device here", where="base_model.device", do=f"use `auto` or one of: {have}")
    return torch.device(wish)


def _dtype(wish: str, device: torch.device) -> torch.dtype:
    if wish == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    dtype: torch.dtype = getattr(torch, wish)
    return dtype


@functools.cache
def _load(
    identity: BaseIdentity, folder: str, device: str, dtype: torch.dtype, quantization: str | None, device_map: str | None
) -> BaseModel:
    import transformers
    from safetensors import SafetensorError

    transformers.logging.set_verbosity_error()  # advice for people who train the model itself
    transformers.utils.logging.disable_progress_bar()
    name = identity.id if identity.revision else folder
    where = f"base_model.id: {name}"
    config = read_config(Path(folder), name)
    encoder_decoder = bool(config.is_encoder_decoder)
    if dtype == torch.float16 and config.model_type in ("t5", "mt5", "umt5"):
        raise InvalidInput("T5 gives NaN in float16", where="base_model.dtype", do="use bfloat16 or float32")
    family = transformers.AutoModelForSeq2SeqLM if encoder_decoder else transformers.AutoModelForCausalLM
    options = dict(trust_remote_code=False, local_files_only=True)
    placing = _placing(device, dtype, quantization, device_map)
    try:
        loaded: Any = family.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **placing, **options
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, json.JSONDecodeError) as error:
        raise InvalidInput(
            f"the model cannot be loaded: {str(error).strip().splitlines()[0]}",
            where=where,
            do="the folder needs config.json, complete .safetensors weights and a tokenizer",
        ) from None
    model, found = loaded
    if found["missing_keys"]:
        # transformers would fill them with random numbers, other ones in every process.
        missing = sorted(found["missing_keys"])
        raise InvalidInput(
            f"the weights lack {len(missing)} of the model's tensors, `{missing[0]}` for one",
            where=where,
            do="use a complete model, with its language-model head",
        )
    model.requires_grad_(False)
    model.eval()
    if not placing:
        model.to(device)
    text = config.get_text_config()
    # T5 has relative positions and BLOOM has ALiBi: no bound of their own.
    context = next((getattr(text, n) for n in ("max_position_embeddings", "n_positions") if getattr(text, n, None)), None)
    return BaseModel(
        model=model,
        tokenizer=tokenizer,
        identity=identity,
        kind="encoder_decoder" if encoder_decoder else "causal",
        context=None if config.model_type in ("t5", "mt5", "umt5") else context,
        device=_entrance(model, device),
        dtype=dtype,
    )


def _placing(device: str, dtype: torch.dtype, quantization: str | None, device_map: str | None) -> dict[str, Any]:
    """Options of a load that puts weights in their place itself; empty for a model that is moved whole."""
    if quantization is None and device_map is None:
        return {}
    import transformers

    options: dict[str, Any] = {"device_map": {"": device} if device_map is None else json.loads(device_map)}
    if device_map is not None:  # layers that fit nowhere else lie on disk
        options["offload_folder"] = _offloaded().name
    if quantization is not None:
        how = dict(load_in_8bit=True) if quantization == "int8" else dict(load_in_4bit=True, bnb_4bit_quant_type="nf4")
        more = {} if quantization == "int8" else dict(bnb_4bit_compute_dtype=dtype)
        options["quantization_config"] = transformers.BitsAndBytesConfig(**how, **more)
    return options


@functools.cache  # one folder a process, gone when it ends
def _offloaded() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="softprompt-offload-")


def _entrance(model: Any, device: str) -> torch.device:
    found: torch.device = model.get_input_embeddings().weight.device
    if found.type != "meta":
        return found
    hook = getattr(model.get_input_embeddings(), "_hf_hook", None)  # weights that lie on disk come to this device to work
    return torch.device(getattr(hook, "execution_device", None) or device)
