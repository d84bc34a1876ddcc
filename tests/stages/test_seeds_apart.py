"""Seeds that are trained in different processes are those that are trained together, and leave the same files."""

from __future__ import annotations

from pathlib import Path

import pytest

from softprompt_core.soft_prompt import SoftPrompt
from softprompt_core.spec import load_spec
from softprompt_core.stages.inputs import gather
from softprompt_core.stages.trained import Trained
from softprompt_core.stages.training import train_seeds
from tests.toy_task import write_toy


def test_seeds_apart_equal_seeds_together_and_either_goes_on_from_the_other(
    taught_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {"max_steps": 60, "eval_every": 10, "batch_size": 16, "patience": 20, "seeds": 3, "seed": 5}
    spec = load_spec(write_toy(tmp_path / "task", taught_base, training=training))
    inputs = gather(spec)
    together = train_seeds(spec, inputs)
    monkeypatch.setenv("SOFTPROMPT_HOME", str(tmp_path / "another home"))
    inputs = gather(spec)
    apart = [one for seed in (7, 5) for one in train_seeds(spec, inputs, only=[seed])]
    assert [one.seed for one in apart] == [7, 5]
    by_seed = {one.seed: one for one in together}
    for one in apart:
        mine, its = weights(one), weights(by_seed[one.seed])
        assert float((mine - its).norm() / its.norm()) < 1e-5

    steps: list[int] = []
    whole = train_seeds(spec, inputs, on_progress=lambda seed: lambda progress: steps.append(seed))
    assert [one.seed for one in whole] == [5, 6, 7] and set(steps) == {6}  # the others were finished


def weights(trained: Trained):
    return SoftPrompt.load(Path(trained.prompt)).weights
