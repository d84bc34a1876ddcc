"""Load and freeze a base language model, whole on one device, quantised, or spread over several."""

from __future__ import annotations

import functools
import gc
import importlib.util
import json
import tempfile
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from softprompt_core.base_model.checking import checked
from softprompt_core.base_model.identity import BaseIdentity, identify, read_config, resolve, resolved_dtype
from softprompt_core.base_model.limits import answer_context, context
from softprompt_core.base_model.model import BaseModel as BaseModel
from softprompt_core.errors import InvalidInput, Unavailable, first_line
from softprompt_core.spec import BaseModelSpec

_TOKENIZER_FILES = ("tokenizer.json", "*.model", "vocab*", "merges.txt", "*.spm", "tekken.json")


@dataclass(frozen=True)
class _LoadOptions:
    """What decides how a base lies in memory."""

    identity: BaseIdentity
    folder: str
    device: str
    dtype: torch.dtype
    quantization: str | None
    device_map: str | None  # JSON

    @property
    def where(self) -> str:
        return f"base_model.id: {self.identity.id if self.identity.revision else self.folder}"


class _LoadedBases:
    """The base used last, and all others that are still in use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # two flow threads must not load the same weights twice
        self._in_use: weakref.WeakValueDictionary[_LoadOptions, BaseModel] = weakref.WeakValueDictionary()
        self._last: BaseModel | None = None  # the next task often names the same base
        self.loads = 0

    def get(self, options: _LoadOptions) -> BaseModel:
        with self._lock:
            base = self._in_use.get(options)
            if base is None:
                self._last = None
                gc.collect()  # a model's modules refer to each other; the next one may need the memory
                self.loads += 1
                base = self._in_use[options] = _load(options)
            self._last = base
            return base


_loaded_bases = _LoadedBases()


def load_base(spec: BaseModelSpec) -> BaseModel:
    """Load the frozen base. While anybody uses it, and until another is loaded, the same object is returned for the same content,
    dtype and placement.

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
    device_map = None if spec.device_map is None else json.dumps(spec.device_map, sort_keys=True)
    dtype: torch.dtype = getattr(torch, resolved_dtype(spec))
    return _loaded_bases.get(_LoadOptions(identity, str(folder), device.type, dtype, spec.quantization, device_map))


def loads() -> int:
    """How often this process has loaded a base, or tried to."""
    return _loaded_bases.loads


def _device(name: str) -> torch.device:
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(candidate for candidate in ("cuda", "mps", "cpu") if present[candidate]))
    if not present[name]:
        available = ", ".join(candidate for candidate, there in present.items() if there)
        raise Unavailable(f"there is no {name} device here", where="base_model.device", do=f"use `auto` or one of: {available}")
    return torch.device(name)


def _load(options: _LoadOptions) -> BaseModel:
    import transformers

    transformers.logging.set_verbosity_error()  # advice for people who train the model itself
    transformers.utils.logging.disable_progress_bar()
    config = read_config(Path(options.folder), options.where.removeprefix("base_model.id: "))
    encoder_decoder = bool(config.is_encoder_decoder)
    _refuse_config(config, options)
    family = transformers.AutoModelForSeq2SeqLM if encoder_decoder else transformers.AutoModelForCausalLM
    safe = dict(trust_remote_code=False, local_files_only=True)
    placement = _placement(options)
    try:
        loaded: Any = family.from_pretrained(
            options.folder, dtype=options.dtype, use_safetensors=True, output_loading_info=True, **placement, **safe
        )
    except ImportError as error:  # weights that somebody quantised need the package that did it
        problem = f"the model needs a package that is not installed: {first_line(error)}"
        raise InvalidInput(problem, where=options.where, do="install it, or use the model that is not quantised") from None
    except MemoryError:
        raise
    except Exception as error:  # whatever a broken folder brings other people's code to raise
        raise InvalidInput(
            f"the model cannot be loaded: {first_line(error)}",
            where=options.where,
            do="the folder needs config.json and complete .safetensors weights",
        ) from None
    model, report = loaded
    _refuse_parts(model, report, options)
    _switch_off_repacking(model)
    model.requires_grad_(False)
    model.eval()
    if not placement:
        model.to(options.device)
    # Settings that came with the model (forced first tokens, shortest lengths) would write other text than what was trained.
    model.generation_config = transformers.GenerationConfig(
        decoder_start_token_id=getattr(config, "decoder_start_token_id", None)
    )
    base = BaseModel(
        model=model,
        tokenizer=_load_tokenizer(options),
        identity=options.identity,
        kind="encoder_decoder" if encoder_decoder else "causal",
        context=context(model),
        device=_input_device(model, options.device),
        dtype=options.dtype,
        answer_context=answer_context(model),
    )
    return checked(base, options.where)


def _refuse_config(config: Any, options: _LoadOptions) -> None:
    """Raises InvalidInput for what the model's config alone tells."""
    if options.dtype == torch.float16 and config.model_type in ("t5", "mt5", "umt5"):
        raise InvalidInput("T5 gives NaN in float16", where="base_model.dtype", do="use bfloat16 or float32")
    if config.is_encoder_decoder and getattr(config, "decoder_start_token_id", None) is None:
        raise InvalidInput(
            "config.json names no decoder_start_token_id, the token that answers begin with",
            where=options.where,
            do="add the one that the model was trained with (for T5 that of <pad>)",
        )


def _load_tokenizer(options: _LoadOptions) -> Any:
    """Raises InvalidInput: the folder holds no tokenizer, or a broken one."""
    import transformers

    folder = Path(options.folder)
    remedy = "copy the tokenizer's files beside the weights (`tokenizer.save_pretrained(folder)`)"
    try:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        there = any(next(folder.glob(pattern), None) for pattern in _TOKENIZER_FILES)
        problem = f"the tokenizer cannot be loaded: {first_line(error)}" if there else "the folder holds no tokenizer"
        raise InvalidInput(problem, where=options.where, do=remedy) from None
    names = [name for value in tokenizer.vocab_files_names.values() for name in ([value] if isinstance(value, str) else value)]
    if names and not any((folder / name).exists() for name in names):
        # transformers made one up from the name of the architecture, with next to no words.
        problem = f"the folder holds no tokenizer, none of: {', '.join(sorted(set(names)))}"
        raise InvalidInput(problem, where=options.where, do=remedy)
    return tokenizer


def _refuse_parts(model: Any, report: Any, options: _LoadOptions) -> None:
    """Raises InvalidInput where weights are not what the config tells, though they were loaded."""
    if report["missing_keys"]:
        # transformers would fill them with random numbers, other ones in every process.
        missing = sorted(report["missing_keys"])
        raise InvalidInput(
            f"the weights lack {len(missing)} of the model's tensors, `{missing[0]}` for one",
            where=options.where,
            do="use a complete model, with its language-model head",
        )
    width = model.get_input_embeddings().weight.shape[1]
    if width != options.identity.hidden_size:
        raise InvalidInput(
            f"the model's embeddings are {width} wide, which its config does not tell ({options.identity.hidden_size})",
            where=options.where,
            do="use another base",
        )


def _placement(options: _LoadOptions) -> dict[str, Any]:
    """Arguments of a load that puts weights in their place itself; empty for a model that is moved as a whole."""
    if options.quantization is None and options.device_map is None:
        return {}
    import transformers

    arguments: dict[str, Any] = {"device_map": {"": options.device}}
    if options.device_map is not None:
        arguments = {"device_map": json.loads(options.device_map), "offload_folder": _offload_folder().name}
    if options.quantization == "int8":
        arguments["quantization_config"] = transformers.BitsAndBytesConfig(load_in_8bit=True)
    elif options.quantization == "nf4":
        arguments["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=options.dtype
        )
    return arguments


def _switch_off_repacking(model: Any) -> None:
    """Give CPUs with AVX512-BF16 the numbers of all other CPUs.

    There bitsandbytes repacks 4-bit weights at the first pass without gradients, for a kernel that fails for layers narrower than
    64, computes in bfloat16 whatever the dtype, and passes no gradient back.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):  # bitsandbytes' Linear4bit
            module.support_avx512bf16_for_cpu = False


@functools.cache
def _offload_folder() -> tempfile.TemporaryDirectory[str]:
    """For layers that fit on no device; one folder a process, gone when it ends."""
    return tempfile.TemporaryDirectory(prefix="softprompt-offload-")


def _input_device(model: Any, device: str) -> torch.device:
    embeddings = model.get_input_embeddings()
    if embeddings.weight.device.type != "meta":
        return torch.device(embeddings.weight.device)
    hook = getattr(embeddings, "_hf_hook", None)  # weights that lie on disk come to this device to work
    return torch.device(getattr(hook, "execution_device", None) or device)
