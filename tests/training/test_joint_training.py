"""Many prompts in one training come out as each would alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from softprompt_core.base_model.label_tree import LabelTree
from softprompt_core.base_model.loading import load_base
from softprompt_core.base_model.tokens import TokenizedRow
from softprompt_core.errors import Diverged
from softprompt_core.forward import prompts
from softprompt_core.spec import BaseModelSpec, TrainingConfig
from softprompt_core.training import TrainedPrompt, TrainingJob, TrainingRows, choose_settings, train_prompt, train_prompts
from tests.tiny_models import save_tiny

FIRST, SECOND = LabelTree.from_ids(((60,), (61, 62), (61, 63))), LabelTree.from_ids(((70, 71), (72,)))


@pytest.fixture(scope="module", params=["llama", "t5"])
def base(request, tmp_path_factory):
    # Weights that are not spread: a rounding must not grow tenfold with every step, as it does in a saturated random model.
    return load_base(BaseModelSpec(id=str(save_tiny(tmp_path_factory.mktemp("m") / request.param, request.param, spread=1.0))))


def task(labels: LabelTree | None, shift: int) -> TrainingRows:
    def row(i: int) -> TokenizedRow:
        ids = (1, *((7 * i + j + shift) % 50 + 100 for j in range(2 + i % 7)), 90 + i % 3)
        return TokenizedRow(ids, labels.ids[i % len(labels)] if labels else (60 + i % 3, 2))

    return TrainingRows([row(i) for i in range(40)], [row(i) for i in range(40, 52)], labels)


def start(base, length: int) -> torch.Tensor:
    return torch.randn(length, base.hidden_size, generator=torch.Generator().manual_seed(length)) * base.embedding_rms


def jobs(base, **options) -> list[TrainingJob]:
    """Two tasks with labels of their own, the first with two seeds, and one that writes text; everything else differs too."""
    chosen = choose_settings(TrainingConfig(max_steps=12, eval_every=4, batch_size=8, patience=20, warmup_steps=2), base, 40)
    first, second, text = task(FIRST, 0), task(SECOND, 5), task(None, 9)
    return [
        TrainingJob(first, start(base, 4), chosen, **options),
        TrainingJob(first, start(base, 4), chosen, seed=1, **options),
        TrainingJob(
            second,
            start(base, 2),
            chosen.model_copy(update={"learning_rate": chosen.learning_rate / 3, "batch_size": 5, "max_steps": 9}),
            **options,
        ),
        TrainingJob(
            text,
            start(base, 3),
            chosen.model_copy(update={"optimizer": "adafactor", "eval_every": 3}),
            **options,
        ),
    ]


def far(a: TrainedPrompt, b: TrainedPrompt) -> float:
    return float((a.weights - b.weights).norm() / b.weights.norm())


@pytest.mark.parametrize("position", ["prefix", "suffix"])
@pytest.mark.parametrize(("rows_at_once", "kept"), [(None, 128), (3, 128), (100, 128), (None, 0)])
def test_joint_training_equals_training_alone(base, position, rows_at_once, kept, monkeypatch):
    monkeypatch.setattr(prompts, "KEPT_COLUMNS", kept)  # 0: the prompts' graph is made anew when gradients are carried
    together = train_prompts(base, jobs(base), position, rows_at_once=rows_at_once)
    for job, result in zip(jobs(base), together, strict=True):
        alone = train_prompt(base, job, position)
        assert isinstance(result, TrainedPrompt) and far(result, alone) < 1e-5 and result.best_step == alone.best_step
        for mine, its in zip(result.history, alone.history, strict=True):
            assert mine == pytest.approx(its, rel=1e-5, nan_ok=True)
        norms = [entry["prompt_norm"] for entry in alone.history]
        assert abs(norms[-1] - norms[0]) > 1e-3, "a prompt that did not move would prove nothing"


@pytest.mark.parametrize(("position", "kept"), [("prefix", 128), ("prefix", 0), ("suffix", 128)])
def test_one_prompt_that_diverges_stops_alone(base, position, kept, monkeypatch):
    monkeypatch.setattr(prompts, "KEPT_COLUMNS", kept)
    some = jobs(base)[:2]
    broken = replace(some[0], start=torch.full_like(some[0].start, float("nan")))
    bad, good = train_prompts(base, [broken, some[1]], position)
    assert isinstance(bad, Diverged) and isinstance(good, TrainedPrompt)
    assert far(good, train_prompt(base, some[1], position)) < 1e-5


def test_a_joint_training_that_is_killed_goes_on_to_the_same_bits(base, tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    def files(folder, kill_at=0):
        def kill(progress):
            if progress.step == kill_at:
                raise Killed

        return [replace(j, save_to=tmp_path / folder / str(n), key="k", on_progress=kill) for n, j in enumerate(jobs(base))]

    monkeypatch.setenv("SOFTPROMPT_CHECKPOINT_S", "0")
    whole = train_prompts(base, files("whole"), "suffix" if base.kind == "causal" else "prefix")
    with pytest.raises(Killed):
        train_prompts(base, files("killed", kill_at=7), "suffix" if base.kind == "causal" else "prefix")
    resumed = train_prompts(base, files("killed"), "suffix" if base.kind == "causal" else "prefix")
    for first, second in zip(whole, resumed, strict=True):
        assert isinstance(first, TrainedPrompt) and torch.equal(first.weights, second.weights)
        assert str(first.history) == str(second.history)


def test_gradient_checkpointing_trains_the_same_prompt(base):
    (job, *_) = jobs(base)
    for position in ("prefix", "suffix"):
        saving = replace(job, settings=job.settings.model_copy(update={"gradient_checkpointing": True}))
        assert far(train_prompt(base, saving, position), train_prompt(base, job, position)) < 1e-6
