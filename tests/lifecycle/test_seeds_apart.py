"""Seeds that are trained in different processes are those that are trained together, and leave the same files."""

from __future__ import annotations

from pathlib import Path

import pytest

from softprompt_core.lifecycle.resolve import resolve
from softprompt_core.lifecycle.train import train
from softprompt_core.lifecycle.trained import TrainedSeed
from softprompt_core.soft_prompt import SoftPrompt
from softprompt_core.spec import load_spec
from tests.toy_task import write_toy


def test_seeds_apart_equal_seeds_together_and_either_goes_on_from_the_other(
    taught_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {"max_steps": 60, "eval_every": 10, "batch_size": 16, "patience": 20, "seeds": 3, "seed": 5}
    spec = load_spec(write_toy(tmp_path / "task", taught_base, training=training))
    together = {trained.seed: trained for trained in train(resolve(spec))}
    monkeypatch.setenv("SOFTPROMPT_HOME", str(tmp_path / "another home"))
    task = resolve(spec)
    apart = [trained for seed in (7, 5) for trained in train(task, seeds=[seed])]
    assert [trained.seed for trained in apart] == [7, 5]
    for trained in apart:
        alone, joint = weights(trained), weights(together[trained.seed])
        assert float((alone - joint).norm() / joint.norm()) < 1e-5

    steps: list[int] = []
    complete = train(task, on_progress=lambda task, seed: lambda progress: steps.append(seed))
    assert [trained.seed for trained in complete] == [5, 6, 7] and set(steps) == {6}  # the others were finished


def weights(trained: TrainedSeed):
    return SoftPrompt.load(trained.prompt).weights
