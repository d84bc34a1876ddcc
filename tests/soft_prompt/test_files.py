"""The soft prompt's file keeps its contract, and whatever breaks it is refused before anything is allocated."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from softprompt_core.base_model import BaseIdentity
from softprompt_core.errors import Diverged, InvalidInput
from softprompt_core.soft_prompt import SoftPrompt, read_npy

BASE = BaseIdentity(id="tiny", revision=None, fingerprint="f" * 64, hidden_size=8)


def prompt(**changes):
    values = dict(weights=torch.randn(4, 8), position="suffix", base=BASE, task="t", labels=("no", "yes"))
    return SoftPrompt(**{**values, **changes})


def test_a_saved_prompt_comes_back_equal(tmp_path):
    saved = prompt()
    saved.save(tmp_path / "p.safetensors")
    loaded = SoftPrompt.load(tmp_path / "p.safetensors")
    assert torch.equal(loaded.weights, saved.weights)
    assert (loaded.position, loaded.base, loaded.task, loaded.labels) == ("suffix", BASE, "t", ("no", "yes"))
    assert loaded.digest == saved.digest != prompt().digest


def test_thousands_of_labels_come_back_as_they_were_saved(tmp_path):
    labels = tuple(f'class "{n}" of many, größer' for n in range(20_000))
    prompt(labels=labels).save(tmp_path / "p.safetensors")
    assert SoftPrompt.load(tmp_path / "p.safetensors").labels == labels


def test_no_file_is_written_that_could_not_be_read(tmp_path):
    with pytest.raises(InvalidInput, match=r"data\.target\.labels: the words of 2 labels"):
        prompt(labels=("no" * 9_000_000, "yes")).save(tmp_path / "p.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_file_is_small(tmp_path):
    prompt(weights=torch.zeros(20, 8)).save(tmp_path / "p.safetensors")
    assert (tmp_path / "p.safetensors").stat().st_size < 20 * 8 * 4 + 1000


def write(path, weights, meta=None, name="soft_prompt"):
    meta = dict(format=1, position="suffix", base=BASE.model_dump(), task="t", labels=[]) | (meta or {})
    save_file({name: weights}, path, metadata={"softprompt": json.dumps(meta)})
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: write(p, torch.full((4, 8), float("nan"))), "NaN"),
        (lambda p: write(p, torch.zeros(4, 9)), "vectors of 9 numbers"),
        (lambda p: write(p, torch.zeros(4)), r"F32 \[4\]"),
        (lambda p: write(p, torch.zeros(4, 8, dtype=torch.float16)), "F16"),
        (lambda p: write(p, torch.zeros(4, 8), name="other"), "other"),
        (lambda p: write(p, torch.zeros(4, 8), {"position": "middle"}), "middle"),
        (lambda p: write(p, torch.zeros(4, 8), {"format": 99}), "format"),
        (lambda p: p.write_bytes(struct.pack("<Q", 1 << 40) + b"{}"), "claims a header"),
        (lambda p: p.write_bytes(b""), "header"),
        (lambda p: p.write_bytes(struct.pack("<Q", 4) + b"nope" + b"x" * 10), "no readable header"),
    ],
)
def test_a_broken_file_is_refused_with_a_plain_message(tmp_path, make, message):
    path = tmp_path / "p.safetensors"
    make(path)
    with pytest.raises(InvalidInput, match=message):
        SoftPrompt.load(path)


def test_a_truncated_file_is_refused(tmp_path):
    prompt().save(tmp_path / "p.safetensors")
    whole = (tmp_path / "p.safetensors").read_bytes()
    (tmp_path / "p.safetensors").write_bytes(whole[:-5])
    with pytest.raises(InvalidInput):
        SoftPrompt.load(tmp_path / "p.safetensors")


def test_a_prompt_refuses_another_base():
    with pytest.raises(InvalidInput, match="was trained on"):
        prompt().require_base(BASE.model_copy(update={"fingerprint": "0" * 64}))


def test_a_prompt_is_never_made_of_nan():
    with pytest.raises(Diverged):
        prompt(weights=torch.full((4, 8), float("nan")))


def test_npy_files_are_read_as_float32_and_pickles_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(6, dtype="<f8").reshape(2, 3))
    assert read_npy(tmp_path / "a.npy").tolist() == [[0, 1, 2], [3, 4, 5]]
    np.save(tmp_path / "b.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_npy(tmp_path / "b.npy")
    np.save(tmp_path / "c.npy", np.zeros(3, dtype="f4"))
    with pytest.raises(InvalidInput, match="one float matrix"):
        read_npy(tmp_path / "c.npy")
