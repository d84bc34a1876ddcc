"""Load and freeze a base language model; its identity; the bundled base.

Every task shares one frozen base. A soft prompt is meaningful for the exact weights that it was trained on and no others, so
the base is named by id, revision and a fingerprint of its content.
"""

from __future__ import annotations

import functools
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from softprompt_core.errors import InvalidInput, Unavailable
from softprompt_core.fingerprint import file_digest, fingerprint
from softprompt_core.spec import BaseModelSpec

BUNDLED = Path(__file__).parent / "bundled" / "model"
_LOAD_LOCK = threading.Lock()  # two flow threads must not load the same weights twice
# What decides the model's answers. Pickled weights (.bin, .pt) are never read.
_IDENTITY_FILES = ("config.json", "*.safetensors", "tokenizer.json", "tokenizer_config.json", "*.model", "vocab.*", "merges.txt")


@dataclass(frozen=True)
class BaseIdentity:
    """What a soft prompt remembers of its base."""

    id: str
    revision: str | None
    fingerprint: str
    hidden_size: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def short(self) -> str:
        revision = f"@{self.revision[:8]}" if self.revision else ""
        return f"{self.id}{revision} ({self.fingerprint[:8]})"


@dataclass(frozen=True, eq=False)
class BaseModel:
    """A frozen model in eval mode with its tokenizer.

    Attributes:
        kind: ``causal`` or ``encoder_decoder``.
        context: longest sequence in tokens, prompt included; None where the architecture sets no bound.
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


def identify(spec: BaseModelSpec) -> BaseIdentity:
    """The identity without loading the weights into memory.

    Raises:
        InvalidInput: no such folder, no safetensors in it, or no usable config.
        Unavailable: the hub cannot be reached and the model is not in the local cache.
    """
    folder, revision = resolve(spec)
    config = _config(folder, spec.id)
    text = config.get_text_config()
    hidden = next((getattr(text, name) for name in ("hidden_size", "n_embd", "d_model") if getattr(text, name, None)), None)
    if hidden is None:
        raise InvalidInput(
            "the model's config names no hidden size", where=spec.id, do="use a causal or encoder–decoder language model"
        )
    return BaseIdentity(spec.id if spec.id == "bundled" or revision else folder.name, revision, _content(folder), int(hidden))


def load_base(spec: BaseModelSpec) -> BaseModel:
    """Load the frozen base once a process; further calls with the same content, dtype and device return the same object.

    Raises:
        InvalidInput: folder, weights, config or tokenizer missing or unusable; float16 asked for a T5 model.
        Unavailable: the hub cannot be reached; the device asked for is not there.
    """
    folder, _ = resolve(spec)
    device = _device(spec.device)
    identity = identify(spec)
    with _LOAD_LOCK:
        return _load(identity, str(folder), device.type, _dtype(spec.dtype, device))


def resolve(spec: BaseModelSpec) -> tuple[Path, str | None]:
    """The local folder that holds the model, and for a hub model its commit. Downloads a hub model if need be."""
    if spec.id == "bundled":
        folder, revision = BUNDLED, None
    elif Path(spec.id).is_dir():
        folder, revision = Path(spec.id), spec.revision
    elif spec.id.startswith(("/", ".", "~")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", spec.id):
        raise InvalidInput(
            "no such folder", where=f"base_model.id: {spec.id}", do="name `bundled`, a model folder, or a hub id like `org/name`"
        )
    else:
        folder, revision = _download(spec.id, spec.revision)
    if not any(folder.glob("*.safetensors")):
        pickled = " (its pickled weights are never read, they can run code)" if any(folder.glob("*.bin")) else ""
        raise InvalidInput(
            f"the folder holds no .safetensors weights{pickled}",
            where=f"base_model.id: {spec.id}",
            do="save the model with `save_pretrained(folder)`, which writes safetensors",
        )
    return folder, revision


def _download(model_id: str, revision: str | None) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    where = f"base_model.id: {model_id}" + (f" @ {revision}" if revision else "")
    try:
        path = snapshot_download(
            model_id, revision=revision, allow_patterns=[*_IDENTITY_FILES, "*.json", "*.txt"], etag_timeout=8
        )
    except RevisionNotFoundError:
        raise InvalidInput("the hub has no such revision", where=where, do="pin a commit that the model's page shows") from None
    except RepositoryNotFoundError:
        raise InvalidInput(
            "the hub has no such model, or it is private", where=where, do="check the id; log in with `hf auth login`"
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise Unavailable(
            f"the model is not in the local cache and the hub cannot be reached ({type(error).__name__})",
            where=where,
            do="check the network (HF_HUB_OFFLINE?), or use a local folder or `bundled`",
        ) from None
    return Path(path), Path(path).name


def _config(folder: Path, model_id: str) -> Any:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, StrictDataclassError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InvalidInput(
            f"the model's config cannot be used: {reason}",
            where=f"base_model.id: {model_id}",
            do="a base needs config.json of an architecture that transformers knows; remote code is never run",
        ) from None


def _content(folder: Path) -> str:
    """Fingerprint of weights, config and tokenizer, over file names and contents."""
    return _content_of(
        tuple((path.name, str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in _identity_files(folder))
    )


@functools.cache  # the arguments hold size and time, so an edited file is read again
def _content_of(files: tuple[tuple[str, str, int, int], ...]) -> str:
    return fingerprint([[name, _digest(Path(path))] for name, path, _, _ in files])


def _identity_files(folder: Path) -> Iterator[Path]:
    found = {path for pattern in _IDENTITY_FILES for path in folder.glob(pattern)}
    return iter(sorted(found))


def _digest(path: Path) -> str:
    # The hub's cache stores large files under their sha256, as targets of links: no need to read gigabytes again.
    target = path.resolve().name
    return target if path.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", target) else file_digest(path)


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
def _load(identity: BaseIdentity, folder: str, device: str, dtype: torch.dtype) -> BaseModel:
    import transformers
    from safetensors import SafetensorError

    transformers.logging.set_verbosity_error()  # advice for people who train the model itself
    transformers.utils.logging.disable_progress_bar()
    name = identity.id if identity.revision else folder
    where = f"base_model.id: {name}"
    config = _config(Path(folder), name)
    encoder_decoder = bool(config.is_encoder_decoder)
    if dtype == torch.float16 and config.model_type in ("t5", "mt5", "umt5"):
        raise InvalidInput("T5 gives NaN in float16", where="base_model.dtype", do="use bfloat16 or float32")
    family = transformers.AutoModelForSeq2SeqLM if encoder_decoder else transformers.AutoModelForCausalLM
    options = dict(trust_remote_code=False, local_files_only=True)
    try:
        loaded: Any = family.from_pretrained(folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **options)
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
        device=torch.device(device),
        dtype=dtype,
    )
