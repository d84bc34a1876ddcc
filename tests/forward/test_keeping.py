"""What is kept and computed again: inputs within a budget, in memory or mapped; prompts; gradient checkpointing."""

from __future__ import annotations

import weakref

import pytest
import torch

from softprompt_core.base_model.loading import load_base
from softprompt_core.errors import InvalidInput
from softprompt_core.forward import Engine, label_scores, plain_target_logits
from softprompt_core.forward import input_cache as input_module
from softprompt_core.forward import prompts as prompts_module
from softprompt_core.forward.recomputing import recomputing
from softprompt_core.spec import BaseModelSpec
from tests.forward.rows import IDS, INPUTS, LABELS, ROWS, TARGETS, soft
from tests.tiny_models import save_tiny

PER_TOKEN = 2 * 2 * 2 * 8 * 4  # layers x keys and values x heads x head x bytes of tests' tiny llama


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_base(BaseModelSpec(id=str(save_tiny(tmp_path_factory.mktemp("m") / "llama", "llama"))))


@pytest.fixture
def counted(base, monkeypatch):
    """How many input tokens each run of the model had; the check of a newly loaded base, which runs it too, comes before."""
    label_scores(Engine(base, "suffix", INPUTS[:1]), soft(base).detach(), LABELS)
    tokens = [0]
    right = input_module.run
    monkeypatch.setattr(
        input_module, "run", lambda b, m, e, mask, *a, **k: (tokens.append(int(mask.sum())), right(b, m, e, mask, *a, **k))[1]
    )
    return tokens


def scores(base, **options):
    return label_scores(Engine(base, "suffix", INPUTS, **options), soft(base).detach(), LABELS)


def test_cached_inputs_score_the_same_kept_beyond_the_budget_or_run_together_with_the_prompt(base):
    kept = scores(base)
    for budget in (0, 1, 3 * PER_TOKEN, 7 * PER_TOKEN):  # nothing, too little, one row, two rows
        torch.testing.assert_close(scores(base, cache_bytes=budget), kept, rtol=1e-5, atol=1e-5)


def test_kept_inputs_run_once_and_those_beyond_the_budget_each_time(base, counted):
    whole = sum(map(len, INPUTS))
    engine = Engine(base, "suffix", INPUTS)
    for _ in range(3):
        label_scores(engine, soft(base).detach(), LABELS)
    assert sum(counted) == whole + 2, "all once, and the shortest row once more to learn how large a token is"
    counted.clear()
    small = Engine(base, "suffix", INPUTS, cache_bytes=7 * PER_TOKEN)
    for _ in range(3):
        label_scores(small, soft(base).detach(), LABELS)
    assert sum(counted) == 2 + (2 + 4) + 3 * 10


def test_engines_over_equal_inputs_share_their_cache(base, counted):
    first, second = Engine(base, "suffix", INPUTS), Engine(base, "suffix", list(INPUTS))
    assert first.input_cache is second.input_cache
    label_scores(first, soft(base).detach(), LABELS)
    before = sum(counted)
    label_scores(second, soft(base, seed=9).detach(), LABELS)
    assert sum(counted) == before
    assert Engine(base, "suffix", INPUTS[:2]).input_cache is not first.input_cache


def poisoned(tensor):
    return tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor


def test_room_for_rows_that_have_not_run_yet_is_never_read(base, monkeypatch):
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, **k: poisoned(empty(*a, **k)))
    monkeypatch.setattr(input_module, "batches", lambda lengths, **_: [[i] for i in range(len(lengths))])
    cache = input_module.InputCache(base, INPUTS, 1_000_000)
    batch = cache.batch([0, 2])  # rows of different lengths; the shortest, first in the store, is not among them
    assert bool(torch.isnan(cache._kept[0][0]).any()), "room for row 1 is still empty"
    assert all(bool(torch.isfinite(states).all()) for states in batch.tensors)


def test_cached_inputs_in_a_mapped_file_score_the_same_and_leave_nothing_behind(base, tmp_path, monkeypatch):
    expected = scores(base)
    monkeypatch.setenv("SOFTPROMPT_CACHE_DIR", str(tmp_path / "inputs"))
    engine = Engine(base, "suffix", INPUTS)
    torch.testing.assert_close(label_scores(engine, soft(base).detach(), LABELS), expected, rtol=1e-6, atol=1e-6)
    assert (tmp_path / "inputs").is_dir() and not list((tmp_path / "inputs").iterdir())


def test_a_budget_that_is_no_number_is_refused(base, monkeypatch):
    monkeypatch.setenv("SOFTPROMPT_CACHE_BYTES", "2 GB")
    with pytest.raises(InvalidInput, match="SOFTPROMPT_CACHE_BYTES"):
        Engine(base, "suffix", INPUTS)


def test_a_prefix_runs_once_for_all_batches_and_the_least_used_is_dropped(base, monkeypatch):
    engine, runs = Engine(base, "prefix", INPUTS), []
    right = prompts_module.run
    monkeypatch.setattr(prompts_module, "run", lambda *a, **k: (runs.append(1), right(*a, **k))[1])
    monkeypatch.setattr(prompts_module, "_kept_caches", weakref.WeakKeyDictionary())
    prompts = [soft(base, seed=n).detach() for n in range(3)]
    for _ in range(3):
        label_scores(engine, prompts[0], LABELS)
    assert len(runs) == 1
    monkeypatch.setattr(prompts_module, "PROMPT_CACHE_BYTES", 2 * 5 * PER_TOKEN)
    for prompt in (prompts[1], prompts[0], prompts[2], prompts[0]):
        label_scores(engine, prompt, LABELS)
    assert len(runs) == 3, "the one in use stays"
    label_scores(engine, prompts[1], LABELS)
    assert len(runs) == 4, "the one that was dropped runs again"


def test_the_same_prompt_on_another_base_has_another_cache(base, tmp_path):
    other = load_base(BaseModelSpec(id=str(save_tiny(tmp_path / "other", "llama", seed=1))))
    prompt = soft(base).detach()
    label_scores(Engine(base, "prefix", INPUTS), prompt, LABELS)  # keeps the prompt's keys and values on this base
    engine = Engine(other, "prefix", INPUTS)
    logits = engine.target_logits(engine.prompts([prompt]), [0, 0, 0], [0, 1, 2], TARGETS)
    torch.testing.assert_close(logits, torch.cat(plain_target_logits(other, prompt, "prefix", ROWS)), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "t5", "bart"])
@pytest.mark.parametrize("position", ["prefix", "suffix"])
def test_gradient_checkpointing_changes_no_gradient_and_keeps_less(tmp_path, family, position):
    base = load_base(BaseModelSpec(id=str(save_tiny(tmp_path / family, family))))
    engine = Engine(base, position, INPUTS)

    def gradient(recompute):
        kept = []

        def keep(tensor):
            kept.append(tensor.numel())
            return tensor

        prompt = soft(base)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            if recompute:
                with recomputing(base):
                    loss = step(prompt)
            else:
                loss = step(prompt)
        (gradient_,) = torch.autograd.grad(loss, prompt)
        return gradient_, sum(kept)

    def step(prompt):
        logits = engine.target_logits(engine.prompts([prompt]), [0, 0, 0], [0, 1, 2], TARGETS)
        return torch.nn.functional.cross_entropy(logits, IDS)

    (without, much), (recomputed, little) = gradient(False), gradient(True)
    torch.testing.assert_close(recomputed, without, rtol=1e-5, atol=1e-7)
    assert little < 0.6 * much


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "gemma3", "t5"])
@pytest.mark.parametrize("position", ["prefix", "suffix"])
def test_a_bfloat16_base_is_as_close_to_float32_as_its_plain_path(tmp_path, family, position):
    folder = str(save_tiny(tmp_path / family, family))
    base, exact = load_base(BaseModelSpec(id=folder, dtype="bfloat16")), load_base(BaseModelSpec(id=folder))
    engine = Engine(base, position, INPUTS)
    prompt = soft(exact)
    logits = engine.target_logits(engine.prompts([prompt]), [0, 0, 0], [0, 1, 2], TARGETS)
    assert logits.dtype == torch.float32
    (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, IDS), prompt)
    assert gradient.dtype == torch.float32 and float(gradient.norm()) > 0
    expected = torch.cat(plain_target_logits(exact, prompt.detach(), position, ROWS))
    plain = torch.cat(plain_target_logits(base, prompt.detach(), position, ROWS))
    off, rounding = float((logits - expected).detach().norm()), float((plain - expected).norm())
    assert off < 2 * rounding
