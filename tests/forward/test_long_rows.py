"""Rows longer than a window of attention, or than rotary frequencies last: fast equals plain there too, or is not used."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from softprompt_core.base_model.loading import BaseModel, load_base
from softprompt_core.base_model.tokens import TokenizedRow
from softprompt_core.forward import Engine, plain_target_logits, target_losses
from softprompt_core.spec import BaseModelSpec
from tests.forward.rows import soft
from tests.tiny_models import save_tiny

SHORT = [(5, 6, 7), (8, 9)]
LONG = [tuple(range(5, 45)), (8, 9)]
TARGETS = [(60, 61), (62, 63)]


def loaded(folder: Path, family: str) -> BaseModel:
    return load_base(BaseModelSpec(id=str(save_tiny(folder / family, family)), device="cpu"))


def plain_losses(base: BaseModel, prompt: torch.Tensor, position: str, inputs: list[tuple[int, ...]]) -> torch.Tensor:
    rows = [TokenizedRow(ids, target) for ids, target in zip(inputs, TARGETS, strict=True)]
    logits = plain_target_logits(base, prompt, position, rows)
    return torch.stack([torch.nn.functional.cross_entropy(row, torch.tensor(t)) for row, t in zip(logits, TARGETS, strict=True)])


@pytest.mark.parametrize("position", ["prefix", "suffix"])
def test_frequencies_that_change_with_length_switch_the_fast_path_off_for_long_rows_alone(tmp_path: Path, position: str) -> None:
    base = loaded(tmp_path, "phi3")
    assert base.switches == (16,)
    prompt = soft(base).detach()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine = Engine(base, position, SHORT)
        engine.prompts([prompt], answer=2)
        assert engine.reason is None
    engine = Engine(base, position, LONG)
    with pytest.warns(RuntimeWarning, match="slow path"):
        losses = target_losses(engine, prompt, TARGETS)
    assert engine.reason and "differ" in engine.reason
    torch.testing.assert_close(losses, plain_losses(base, prompt, position, LONG), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("position", ["prefix", "suffix"])
@pytest.mark.parametrize("family", ["gemma3", "mistral"])
def test_windows_stay_on_the_fast_path_where_it_is_exact(tmp_path: Path, family: str, position: str) -> None:
    base = loaded(tmp_path, family)
    assert base.switches == (6,)
    prompt = soft(base).detach()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses = target_losses(Engine(base, position, LONG), prompt, TARGETS)
    torch.testing.assert_close(losses, plain_losses(base, prompt, position, LONG), rtol=1e-4, atol=1e-4)


def test_long_rows_are_compared_once_a_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from softprompt_core.forward import engine as engine_module

    base, seen = loaded(tmp_path, "mistral"), []
    check = engine_module._self_check
    monkeypatch.setattr(engine_module, "_self_check", lambda *a: (seen.append(a[1:]), check(*a))[1])
    for _ in range(3):
        target_losses(Engine(base, "suffix", LONG), soft(base).detach(), TARGETS)
    assert seen == [("suffix", 0), ("suffix", 6)]
