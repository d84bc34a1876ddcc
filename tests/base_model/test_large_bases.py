"""Bases that are quantised, or spread over devices: prompts train on them and are scored as on the plain path."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from softprompt_core.base_model import BaseModel, identify, load_base
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
    for got, wanted in zip(gradient(spread, position), gradient(whole, position), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)
    prompt = soft(whole).detach()
    scores = [label_scores(Engine(base, position, INPUTS), prompt, LABELS) for base in (spread, whole)]
    torch.testing.assert_close(*scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("position", ["prefix", "suffix"])
def test_a_base_quantised_to_four_bits_trains_and_equals_its_plain_path(folder, position):
    pytest.importorskip("bitsandbytes", reason="quantisation needs the extra `large`")
    base = load_base(BaseModelSpec(id=folder, quantization="nf4"))
    assert type(base.model.model.layers[0].mlp.up_proj).__name__ == "Linear4bit"
    logits, found = gradient(base, position)
    prompt = soft(base)
    wanted = torch.cat(plain_target_logits(base, prompt, position, ROWS))
    slow = torch.autograd.grad(torch.nn.functional.cross_entropy(wanted, IDS), prompt)[0]
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4 * float(wanted.detach().abs().max()))
    assert float((found - slow).norm() / slow.norm()) < 1e-3


def test_a_base_quantised_to_eight_bits_trains_near_its_plain_path(folder):
    pytest.importorskip("bitsandbytes", reason="quantisation needs the extra `large`")
    base = load_base(BaseModelSpec(id=folder, quantization="int8", dtype="bfloat16"))
    prompt = soft(base)
    # Activations are quantised row by row, so the paths differ by more than rounding; whichever was chosen must be near.
    engine = Engine(base, "prefix", INPUTS)
    logits = engine.target_logits(engine.prompts([prompt]), [0, 0, 0], [0, 1, 2], TARGETS)
    wanted = torch.cat(plain_target_logits(base, prompt, "prefix", ROWS))
    assert float((logits - wanted).norm() / wanted.norm()) < 0.1
    (found,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, IDS), prompt)
    assert torch.isfinite(found).all() and float(found.norm()) > 0


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
