"""``SoftPrompt``: the tensor with its contract, and its safetensors file.

File layout: one float32 tensor ``soft_prompt`` of shape ``[length, hidden]``; in the header's metadata one JSON text
``softprompt`` with format version, position, base identity and task. The header is checked against the file's size before
anything is allocated, so that a hostile or broken file costs nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from softprompt_core.base_model import BaseIdentity
from softprompt_core.base_model.loading import BaseModel
from softprompt_core.errors import Diverged, InvalidInput
from softprompt_core.json_files import parse_json, replacing
from softprompt_core.text_files import require_regular

FILE_NAME = "soft_prompt.safetensors"
_TENSOR = "soft_prompt"
_FORMAT = 1
_MAX_HEADER = 16 * 1024 * 1024  # the words of many thousand labels
_MAX_FILE = 64 * 1024 * 1024

Position = Literal["prefix", "suffix"]


@dataclass(frozen=True, eq=False)
class SoftPrompt:
    """A trained (or freshly initialised) soft prompt.

    Attributes:
        weights: float32 on the CPU, ``[length, hidden]``, finite.
        position: before (``prefix``) or after (``suffix``) the embedded input.
        base: the base that it was trained on; it refuses any other.
        task: name of the task.
        labels: label words in order; empty for generation.
    """

    weights: Tensor
    position: Position
    base: BaseIdentity
    task: str
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.weights.dtype != torch.float32 or self.weights.ndim != 2 or self.weights.shape[1] != self.base.hidden_size:
            raise InvalidInput(
                f"a soft prompt for {self.base.short} is float32 [length, {self.base.hidden_size}], "
                f"not {self.weights.dtype} {list(self.weights.shape)}",
                where=self.task,
            )
        if not torch.isfinite(self.weights).all():
            raise Diverged("the soft prompt holds NaN or infinite values", where=self.task, do="lower training.learning_rate")

    @property
    def length(self) -> int:
        return int(self.weights.shape[0])

    @property
    def digest(self) -> str:
        """sha256 of the values and the position; equal prompts have equal digests."""
        content = self.weights.contiguous().numpy().tobytes()
        return hashlib.sha256(self.position.encode() + content).hexdigest()

    def require_base(self, base: BaseIdentity) -> None:
        """Raise InvalidInput unless ``base`` is the one that the prompt was trained on."""
        if base.fingerprint != self.base.fingerprint:
            raise InvalidInput(
                f"the soft prompt was trained on {self.base.short}, not on {base.short}",
                where=self.task,
                do="load that base, or train a prompt for this one",
            )

    def fits(self, base: BaseModel) -> None:
        """Raise InvalidInput unless the prompt belongs to ``base`` and leaves room for an input in its context."""
        self.require_base(base.identity)
        require_room(self.length, base)

    def save(self, path: Path) -> None:
        """Write the file; a half-written file never stands under the name.

        Raises:
            InvalidInput: the label words do not fit a header that ``load`` reads.
        """
        from safetensors.torch import save_file

        meta = dict(format=_FORMAT, position=self.position, base=self.base.model_dump(), task=self.task, labels=list(self.labels))
        text = json.dumps(meta, sort_keys=True, ensure_ascii=False)
        if len(json.dumps(text, ensure_ascii=False).encode()) > _MAX_HEADER - 4096:  # the rest is the tensor's own entry
            problem = f"the words of {len(self.labels)} labels take more than {_MAX_HEADER} bytes"
            raise InvalidInput(
                problem, where="data.target.labels", do="use shorter words; for free text use data.target.template"
            )
        # One entry only: with several the writer's order changes from run to run, and equal prompts would be unequal files.
        with replacing(path) as partial:
            save_file({_TENSOR: self.weights.contiguous()}, partial, metadata={"softprompt": text})

    @classmethod
    def load(cls, path: Path) -> SoftPrompt:
        """Read a file that ``save`` wrote.

        Raises:
            InvalidInput: not such a file; NaN; shape, dtype or size not as the header promises.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        header = read_header(path)
        entry, meta = header.get(_TENSOR), _meta(header, path)
        if not isinstance(entry, dict) or set(header) - {_TENSOR, "__metadata__"}:
            names = ", ".join(sorted(set(header) - {"__metadata__"})) or "none"
            raise _bad(path, f"holds the tensors {names}; wanted one named `{_TENSOR}`")
        shape = entry.get("shape")
        if entry.get("dtype") != "F32" or not isinstance(shape, list) or len(shape) != 2:
            raise _bad(path, f"holds {entry.get('dtype')} {shape}; wanted F32 [length, hidden]")
        try:
            base = BaseIdentity(**meta["base"])
            weights = load_file(path)[_TENSOR]
            position, task, labels = meta["position"], str(meta["task"]), _words(meta["labels"])
        except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
            raise _bad(path, f"is damaged: {error}") from None
        if position not in ("prefix", "suffix"):
            raise _bad(path, f"names the position {position!r}; prefix and suffix are known")
        if not len(weights):
            raise _bad(path, "holds no vector")
        if shape[1] != base.hidden_size:
            raise _bad(path, f"has vectors of {shape[1]} numbers, but its base {base.short} has {base.hidden_size}")
        if not torch.isfinite(weights).all():
            raise _bad(path, "holds NaN or infinite values")
        return cls(weights, position, base, task, labels)


def require_room(length: int, base: BaseModel) -> None:
    """Raise InvalidInput when ``length`` vectors leave no room for input and answer in the base's context."""
    if base.context is not None and length + 8 > base.context:
        raise InvalidInput(
            f"a prompt of {length} vectors does not fit: prompt, input and answer share a context of {base.context} tokens",
            where="prompt.length",
            do=f"use at most {max(base.context - 8, 1)}; 20 is usually enough",
        )


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file, checked for plausible size before it is read."""
    try:
        require_regular(path)
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(_MAX_HEADER, size - 8):
                raise _bad(path, f"claims a header of {length} bytes; at most {_MAX_HEADER} are read")
            if size > _MAX_FILE:
                raise _bad(path, f"has {size} bytes; a soft prompt is far smaller than {_MAX_FILE}")
            header = parse_json(file.read(length))
    except FileNotFoundError:
        raise InvalidInput("no such file", where=str(path), do="check the path") from None
    except OSError as error:
        raise InvalidInput(f"cannot be read: {error.strerror}", where=str(path)) from None
    except ValueError:
        raise _bad(path, "has no readable header") from None
    if not isinstance(header, dict):
        raise _bad(path, "has no readable header")
    return header


def _meta(header: dict[str, Any], path: Path) -> dict[str, Any]:
    try:
        meta = parse_json(header["__metadata__"]["softprompt"])
    except (KeyError, TypeError, ValueError):
        raise _bad(path, "lacks the soft-prompt metadata") from None
    if not isinstance(meta, dict) or meta.get("format") != _FORMAT:
        raise _bad(path, "has a format that this version does not know")
    return meta


def _words(labels: Any) -> tuple[str, ...]:
    if not isinstance(labels, list) or not all(isinstance(word, str) for word in labels):
        raise ValueError("`labels` is no list of words")
    return tuple(labels)


def _bad(path: Path, what: str) -> InvalidInput:
    return InvalidInput(f"not a usable soft prompt: {what}", where=str(path), do="register or export the prompt again")
