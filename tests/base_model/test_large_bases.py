"""Bases that are quantised, or spread over devices: prompts train on them and are scored as on the plain path."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from softprompt_core.base_model import identify
from softprompt_core.base_model.loading import BaseModel, load_base
from softprompt_core.forward import Engine, label_scores, plain_target_logits
from softprompt_core.spec import BaseModelSpec
from tests.forward.rows import IDS, INPUTS, LABELS, ROWS, TARGETS, soft
from tests.tiny_models import save_tiny

# The second layer's weights lie on disk and come into memory when the layer runs.
SPREAD = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.norm": "cpu"}
SPREAD |= {"model.rotary_emb": "cpu", "lm_head": "cpu"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("large") / "llama", "llama"))


def gradient(base: BaseModel, position: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and the prompt's gradient, on the fast path."""
    prompt, engine = soft(base), Engine(base, position, INPUTS)
    assert engine.reason is None, engine.reason
    logits = engine.target_logits(engine.prompts([prompt]), [0, 0, 0], [0, 1, 2], TARGETS)
    return logits.detach(), torch.autograd.grad(torch.nn.functional.cross_entropy(logits, IDS), prompt)[0]


@pytest.mark.parametrize("position", ["prefix", "suffix"])
def test_a_base_that_is_spread_over_devices_gives_the_numbers_of_a_whole_one(folder, position):
    pytest.importorskip("accelerate", reason="spreading a base needs the extra `large`")
    whole, spread = load_base(BaseModelSpec(id=folder)), load_base(BaseModelSpec(id=folder, device_map=SPREAD))
    assert spread.model.model.layers[1].mlp.up_proj.weight.device.type == "meta", "this layer lies on disk"
    for got, expected in zip(gradient(spread, position), gradient(whole, position), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    prompt = soft(whole).detach()
    scores = [label_scores(Engine(base, position, INPUTS), prompt, LABELS) for base in (spread, whole)]
    torch.testing.assert_close(*scores, rtol=1e-5, atol=1e-6)


@pytest.fixture
def dequantised() -> Callable[[BaseModel], BaseModel]:
    """Makes a copy of a base whose layers hold, as plain numbers, what the 4-bit weights stand for."""

    def copied(base: BaseModel) -> BaseModel:
        from bitsandbytes.functional import dequantize_4bit

        model = copy.deepcopy(base.model)
        for name, layer in base.model.named_modules():
            if type(layer).__name__ == "Linear4bit":
                plain = torch.nn.Linear(layer.in_features, layer.out_features, bias=False)
                plain.weight = torch.nn.Parameter(dequantize_4bit(layer.weight.data, layer.weight.quant_state), False)
                model.set_submodule(name, plain)
        return replace(base, model=model)

    return copied


@pytest.mark.parametrize("position", ["prefix", "suffix"])
@pytest.mark.parametrize("has_bf16", [False, True], ids=["any_cpu", "cpu_with_avx512_bf16"])
@pytest.mark.parametrize("width", [32, 128])  # bitsandbytes quantises blocks of 64 weights
def test_a_base_quantised_to_four_bits_trains_and_scores_alike_on_every_cpu(
    tmp_path, monkeypatch, dequantised, position, has_bf16, width
):
    modules = pytest.importorskip("bitsandbytes.nn.modules", reason="quantisation needs the extra `large`")
    monkeypatch.setattr(modules, "has_avx512bf16", lambda: has_bf16)  # the library's own question about the processor
    folder = save_tiny(tmp_path / "llama", "llama", hidden_size=width)
    base = load_base(BaseModelSpec(id=str(folder), quantization="nf4", device="cpu"))
    assert type(base.model.model.layers[0].mlp.up_proj).__name__ == "Linear4bit"
    reference, prompt = dequantised(base), soft(base)
    expected = torch.cat(plain_target_logits(reference, prompt, position, ROWS))
    slow = torch.autograd.grad(torch.nn.functional.cross_entropy(expected, IDS), prompt)[0]
    scores = label_scores(Engine(reference, position, INPUTS), prompt.detach(), LABELS)
    # Scoring first: passes without gradients must leave the weights as training needs them.
    torch.testing.assert_close(
        label_scores(Engine(base, position, INPUTS), prompt.detach(), LABELS), scores, rtol=1e-4, atol=1e-3
    )
    logits, fast = gradient(base, position)
    torch.testing.assert_close(logits, expected.detach(), rtol=1e-4, atol=1e-4 * float(expected.detach().abs().max()))
    assert float((fast - slow).norm() / slow.norm()) < 1e-3


def test_a_base_quantised_to_eight_bits_trains_near_its_plain_path(folder):
    pytest.importorskip("bitsandbytes", reason="quantisation needs the extra `large`")
    base = load_base(BaseModelSpec(id=folder, quantization="int8", dtype="bfloat16"))
    prompt = soft(base)
    # Activations are quantised row by row, so the paths differ by more than rounding; whichever was chosen must be near.
    engine = Engine(base, "prefix", INPUTS)
    logits = engine.target_logits(engine.prompts([prompt]), [0, 0, 0], [0, 1, 2], TARGETS)
    expected = torch.cat(plain_target_logits(base, prompt, "prefix", ROWS)).detach()
    assert float((logits.detach() - expected).norm() / expected.norm()) < 0.1
    (prompt_gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, IDS), prompt)
    assert torch.isfinite(prompt_gradient).all() and float(prompt_gradient.norm()) > 0


def test_a_quantised_base_is_another_base(folder):
    plain, quantised = identify(BaseModelSpec(id=folder)), identify(BaseModelSpec(id=folder, quantization="nf4"))
    assert plain.fingerprint != quantised.fingerprint and plain.hidden_size == quantised.hidden_size
    assert identify(BaseModelSpec(id=folder, device_map=SPREAD)) == plain, "where it lies does not matter"


def test_a_missing_package_is_named(folder, monkeypatch):
    import importlib.util

    from softprompt_core.errors import InvalidInput

    right = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "bitsandbytes" else right(name, *a))
    with pytest.raises(InvalidInput, match="bitsandbytes"):
        load_base(BaseModelSpec(id=folder, quantization="nf4"))
    assert Path(folder).is_dir()
