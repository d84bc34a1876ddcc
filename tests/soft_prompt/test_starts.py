"""``prompt.init: file``: the vectors of this library's files, of numpy's and of PEFT's adapters."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from softprompt_core.base_model.loading import BaseModel, load_base
from softprompt_core.errors import InvalidInput
from softprompt_core.lifecycle.resolve import resolve
from softprompt_core.lifecycle.tokenized import release
from softprompt_core.lifecycle.train import _initial_weights
from softprompt_core.soft_prompt import SoftPrompt, read_start, write_peft
from softprompt_core.spec import BaseModelSpec, load_spec
from tests.tiny_models import save_tiny
from tests.toy_task import write_toy


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("m") / "llama", "llama")


@pytest.fixture(scope="module")
def base(tiny: Path) -> BaseModel:
    return load_base(BaseModelSpec(id=str(tiny), device="cpu"))


def adapter(folder: Path, weights: torch.Tensor, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    save_file({"prompt_embeddings": weights}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "PROMPT_TUNING"} | config))
    return folder


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_what_peft_itself_saves_is_read_as_folder_and_as_file(tmp_path: Path, family: str) -> None:
    peft = pytest.importorskip("peft")
    loaded = load_base(BaseModelSpec(id=str(save_tiny(tmp_path / family, family)), device="cpu"))
    task_type = "CAUSAL_LM" if family == "llama" else "SEQ_2_SEQ_LM"
    config = peft.PromptTuningConfig(task_type=task_type, num_virtual_tokens=5)
    model = peft.get_peft_model(type(loaded.model).from_pretrained(tmp_path / family), config)
    model.save_pretrained(tmp_path / "theirs")
    # PEFT puts the first vectors before the encoder's input, and for encoder–decoder models keeps as many again unused.
    expected = model.prompt_encoder["default"].embedding.weight.detach()[:5]
    for path in (tmp_path / "theirs", tmp_path / "theirs" / "adapter_model.safetensors"):
        assert torch.equal(read_start(path, loaded), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_every_float_format_becomes_float32(tmp_path: Path, base: BaseModel, dtype: torch.dtype) -> None:
    weights = torch.randn(4, base.hidden_size).to(dtype)
    start = read_start(adapter(tmp_path, weights), base)
    assert start.dtype == torch.float32 and torch.equal(start, weights.float())


def test_a_version_s_folder_and_files_of_all_kinds_are_read(tmp_path: Path, base: BaseModel) -> None:
    prompt = SoftPrompt(torch.randn(4, base.hidden_size), "prefix", base.identity, "t")
    prompt.save(tmp_path / "soft_prompt.safetensors")
    write_peft(prompt, base, tmp_path)
    np.save(tmp_path / "p.npy", prompt.weights.numpy())
    for name in ("", "soft_prompt.safetensors", "adapter_model.safetensors", "p.npy"):
        assert torch.equal(read_start(tmp_path / name, base), prompt.weights), name


@pytest.mark.parametrize(
    ("config", "tensors", "words"),
    [
        (
            {"peft_type": "LORA"},
            {"base_model.model.lora_A.weight": torch.zeros(2, 2)},
            "of the kind LORA, which has no soft prompt",
        ),
        ({"peft_type": "PREFIX_TUNING"}, {"prompt_embeddings": torch.zeros(4, 128)}, "of the kind PREFIX_TUNING"),
        ({}, {"prompt_embeddings": torch.zeros(4, 32, dtype=torch.int64)}, "holds no float matrix"),
        ({}, {"prompt_embeddings": torch.zeros(4)}, "holds no float matrix"),
        ({}, {"other": torch.zeros(4, 32)}, "holds no float matrix"),
        ({}, {"prompt_embeddings": torch.full((4, 32), float("nan"))}, "NaN"),
    ],
)
def test_an_adapter_that_holds_no_prompt_is_refused(
    tmp_path: Path, base: BaseModel, config: dict[str, Any], tensors: dict[str, torch.Tensor], words: str
) -> None:
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "PROMPT_TUNING"} | config))
    with pytest.raises(InvalidInput, match=words):
        read_start(tmp_path, base)


def test_pickles_and_folders_without_a_prompt_are_refused(tmp_path: Path, base: BaseModel) -> None:
    with pytest.raises(InvalidInput, match="holds neither soft_prompt"):
        read_start(tmp_path, base)
    torch.save({"prompt_embeddings": torch.zeros(4, 32)}, tmp_path / "adapter_model.bin")
    with pytest.raises(InvalidInput, match="is a pickle"):
        read_start(tmp_path, base)


def test_a_task_starts_from_an_adapter_and_is_another_training_when_that_changes(
    tmp_path: Path, base: BaseModel, tiny: Path
) -> None:
    weights = torch.randn(4, base.hidden_size)
    adapter(tmp_path / "mine", weights)
    path = write_toy(tmp_path, tiny, prompt={"length": 4, "init": "file", "file": "mine"})
    task = resolve(load_spec(path))
    assert torch.equal(_initial_weights(task, 0, None), weights)
    adapter(tmp_path / "mine", weights + 1)
    assert resolve(load_spec(path)).fingerprints.training != task.fingerprints.training
    release()


def test_a_start_that_cannot_be_read_is_told_before_anything_else(tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.npy")
    for name, words in (("empty", "holds neither"), ("pipe.npy", "is a pipe"), ("none.npy", "no such file")):
        with pytest.raises(InvalidInput, match=words):
            resolve(load_spec(write_toy(tmp_path, tiny, prompt={"length": 4, "init": "file", "file": name})))
