"""Whatever bytes a prompt file holds, it is read or refused with words: nothing hangs, grows or ends in a traceback."""

from __future__ import annotations

import io
import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from softprompt_core.base_model import BaseIdentity
from softprompt_core.errors import InvalidInput
from softprompt_core.soft_prompt import SoftPrompt, read_npy, read_peft

BASE = BaseIdentity(id="tiny", revision=None, fingerprint="f" * 64, hidden_size=4)
META = {"format": 1, "position": "suffix", "base": BASE.model_dump(), "task": "t", "labels": ["no", "yes"]}
WEIGHTS = torch.arange(12, dtype=torch.float32).reshape(3, 4)
OWN = save({"soft_prompt": WEIGHTS}, metadata={"softprompt": json.dumps(META)})
PEFT = save({"prompt_embeddings": WEIGHTS}, metadata={"format": "pt"})
CONFIG = json.dumps({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3}).encode()
with io.BytesIO() as _buffer:
    np.save(_buffer, WEIGHTS.numpy())
    NPY = _buffer.getvalue()
READERS: dict[str, tuple[bytes, str, Callable[[Path], Any]]] = {
    "own": (OWN, "p.safetensors", SoftPrompt.load),
    "peft": (PEFT, "adapter_model.safetensors", read_peft),
    "npy": (NPY, "p.npy", read_npy),
}
PIECES = [
    b"",
    b"\0",
    b"\xff" * 8,
    b"[" * 10_000,
    b"{",
    b'"',
    b"9" * 5000,
    struct.pack("<Q", 1 << 40),
    b"F64",
    b"'descr': '|O'",
    b"1e999",
]
bounded = settings(max_examples=150, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))


def read_or_refuse(kind: str, data: bytes, folder: Path) -> None:
    _, name, read = READERS[kind]
    (folder / name).write_bytes(data)
    try:
        value = read(folder / name)
    except InvalidInput as error:
        assert len(str(error)) < 4000
    else:
        weights = value.weights if isinstance(value, SoftPrompt) else value
        assert weights.dtype == torch.float32 and weights.ndim == 2 and torch.isfinite(weights).all()


@pytest.mark.parametrize("kind", READERS)
def test_the_files_that_are_altered_here_are_right(kind: str, tmp_path: Path) -> None:
    data, name, read = READERS[kind]
    (tmp_path / name).write_bytes(data)
    value = read(tmp_path / name)
    assert torch.equal(value.weights if isinstance(value, SoftPrompt) else value, WEIGHTS)


@pytest.mark.parametrize("kind", READERS)
@bounded
@given(source=st.randoms(use_true_random=False), count=st.integers(1, 4))
def test_an_altered_file_is_read_or_refused(
    kind: str, source: random.Random, count: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = READERS[kind][0]
    for _ in range(count):
        at = source.randrange(len(data) + 1)
        until = min(len(data), at + source.choice((0, 1, 1, 2, 8, 40)))
        data = data[:at] + source.choice((*PIECES, bytes([source.randrange(256)]), data[at : at + 50] * 2)) + data[until:]
    read_or_refuse(kind, data, _folder(tmp_path_factory))


def plain_json() -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([10**400, "F32"])
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    )


@pytest.mark.parametrize("key", [*META, "base.hidden_size", "base.id"])
@settings(parent=bounded, max_examples=25)
@given(value=plain_json())
def test_any_value_in_the_metadata_is_read_or_refused(key: str, value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    outer, _, inner = key.partition(".")
    meta = {**META, outer: {**BASE.model_dump(), inner: value} if inner else value}
    read_or_refuse("own", save({"soft_prompt": WEIGHTS}, metadata={"softprompt": json.dumps(meta)}), _folder(tmp_path_factory))


@bounded
@given(header=st.dictionaries(st.sampled_from(["soft_prompt", "prompt_embeddings", "__metadata__", "x"]), plain_json()))
def test_any_header_is_read_or_refused(header: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    text = json.dumps(header).encode()
    for kind in ("own", "peft"):
        read_or_refuse(kind, struct.pack("<Q", len(text)) + text + bytes(48), _folder(tmp_path_factory))


@settings(parent=bounded, max_examples=50)
@given(config=plain_json() | st.fixed_dictionaries({"peft_type": plain_json(), "num_virtual_tokens": plain_json()}))
def test_any_config_beside_an_adapter_is_read_or_refused(config: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = _folder(tmp_path_factory)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    read_or_refuse("peft", PEFT, folder)
    (folder / "adapter_config.json").unlink()


@pytest.mark.parametrize("kind", READERS)
def test_nesting_without_end_and_a_pipe_are_refused_at_once(kind: str, tmp_path: Path) -> None:
    _, name, read = READERS[kind]
    deep = b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    (tmp_path / name).write_bytes(struct.pack("<Q", len(deep)) + deep)
    with pytest.raises(InvalidInput):
        read(tmp_path / name)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(InvalidInput, match="is a pipe or a device"):
        read(tmp_path / name)


def test_nested_metadata_and_a_prompt_without_vectors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    path.write_bytes(save({"soft_prompt": WEIGHTS}, metadata={"softprompt": "[" * 10_000}))
    with pytest.raises(InvalidInput, match="lacks the soft-prompt metadata"):
        SoftPrompt.load(path)
    path.write_bytes(save({"soft_prompt": WEIGHTS[:0]}, metadata={"softprompt": json.dumps(META)}))
    with pytest.raises(InvalidInput, match="holds no vector"):
        SoftPrompt.load(path)


def test_a_matrix_that_promises_more_than_the_file_holds_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "p.npy"
    path.write_bytes(NPY.replace(b"(3, 4)", b"(9999999999, 4)").replace(b"          ", b"", 1))
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_npy(path)
    np.savez(tmp_path / "several.npz", a=WEIGHTS.numpy())
    (tmp_path / "several.npz").rename(path)
    with pytest.raises(InvalidInput, match="an archive of several arrays"):
        read_npy(path)


def _folder(factory: pytest.TempPathFactory) -> Path:
    """One folder for all files of a test's examples: a new one for each would cost more than the reading."""
    folder = factory.getbasetemp() / "fuzzed"
    folder.mkdir(exist_ok=True)
    return folder
