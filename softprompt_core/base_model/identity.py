"""Which base a spec names: its id, revision, a fingerprint of its content, its folder and number format.

A soft prompt is meaningful for the exact weights that it was trained on and no others, so the base is named by its content.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from softprompt_core.errors import InvalidInput, Unavailable, first_line
from softprompt_core.fingerprint import file_digest, fingerprint
from softprompt_core.spec import BaseModelSpec
from softprompt_core.spec.frozen import Frozen

BUNDLED = Path(__file__).parent / "bundled"
# What decides the model's answers. Pickled weights (.bin, .pt) are never read.
_IDENTITY_FILES = ("config.json", "*.safetensors", "tokenizer.json", "tokenizer_config.json", "*.model", "vocab.*", "merges.txt")


class BaseIdentity(Frozen):
    """The base as a soft prompt's file names it."""

    id: str
    revision: str | None
    fingerprint: str
    hidden_size: int

    @property
    def short(self) -> str:
        """Id, revision and fingerprint for messages."""
        revision = f"@{self.revision[:8]}" if self.revision else ""
        return f"{self.id}{revision} ({self.fingerprint[:8]})"


def identify(spec: BaseModelSpec) -> BaseIdentity:
    """The identity without loading the weights into memory.

    Raises:
        InvalidInput: no such folder, no safetensors in it, or no usable config.
        Unavailable: the hub cannot be reached and the model is not in the local cache.
    """
    folder, revision = resolve(spec)
    content = _content(folder)
    if spec.quantization is not None:  # other weights, and so another base
        content = fingerprint([content, spec.quantization])
    name = spec.id if spec.id == "bundled" or revision else folder.name
    return BaseIdentity(id=name, revision=revision, fingerprint=content, hidden_size=_hidden_size(folder, spec.id))


def resolved_dtype(spec: BaseModelSpec) -> str:
    """The number format that the base's weights have on this machine: ``float32``, ``bfloat16`` or ``float16``.

    Imports torch only where its installed build may find a GPU.
    """
    if spec.dtype != "auto":
        return spec.dtype
    if spec.device in ("cpu", "mps") or importlib.metadata.version("torch").endswith("+cpu"):
        return "float32"
    import torch

    return "bfloat16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "float32"


def _hidden_size(folder: Path, model_id: str) -> int:
    # The file itself first: the model library takes two seconds to import what it needs to read it.
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        size = _size_in(config.get("text_config", config))
    except (OSError, ValueError, AttributeError):
        size = None
    size = size or _size_in(vars(read_config(folder, model_id).get_text_config()))
    if size is None:
        raise InvalidInput(
            "the model's config names no hidden size", where=model_id, do="use a causal or encoder–decoder language model"
        )
    return size


def _size_in(values: Mapping[str, Any]) -> int | None:
    # Some models have embeddings narrower than their layers, and a soft prompt takes the place of embeddings.
    names = ("word_embed_proj_dim", "embedding_size", "hidden_size", "n_embd", "n_embed", "d_model", "emb_dim", "d_embed")
    return next((v for name in names if isinstance(v := values.get(name), int)), None)


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


def read_config(folder: Path, model_id: str) -> Any:
    """The model library's config object. Raises InvalidInput where it cannot be used."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # whatever wrong values bring other people's code to raise
        raise InvalidInput(
            f"the model's config cannot be used: {first_line(error)}",
            where=f"base_model.id: {model_id}",
            do="a base needs config.json of an architecture that transformers knows; remote code is never run",
        ) from None


def _content(folder: Path) -> str:
    """Fingerprint of weights, config and tokenizer, over file names and contents."""
    files = sorted({path for pattern in _IDENTITY_FILES for path in folder.glob(pattern)})
    return _content_of(tuple((path.name, str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files))


@functools.lru_cache(maxsize=64)  # the arguments hold size and time, so an edited file is read again
def _content_of(files: tuple[tuple[str, str, int, int], ...]) -> str:
    return fingerprint([[name, _digest(Path(path))] for name, path, _, _ in files])


def _digest(path: Path) -> str:
    # The hub's cache stores large files under their sha256, as targets of links: no need to read gigabytes again.
    target = path.resolve().name
    return target if path.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", target) else file_digest(path)
