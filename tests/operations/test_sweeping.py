"""Points of a sweep: trained together as each would be alone, and chosen by rules that can be checked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from softprompt_core.errors import InvalidInput
from softprompt_core.lifecycle.resolve import ResolvedTask, resolve
from softprompt_core.lifecycle.tokenized import release
from softprompt_core.lifecycle.train import train, train_together
from softprompt_core.lifecycle.trained import best_seed
from softprompt_core.operations.sweep.choice import PointResult, SweepResult, advice, choose, standard_error, within
from softprompt_core.operations.sweep.points import SweepPoint, check_points, groups, resolve_points, train_points
from softprompt_core.soft_prompt import SoftPrompt
from softprompt_core.spec import load_spec
from softprompt_core.spec.grid import GridPoint, grid_points
from softprompt_core.training import Progress
from tests.toy_task import write_toy

SHORT = {"max_steps": 12, "eval_every": 4, "batch_size": 16, "patience": 20}


def points(folder: Path, base: Path, **grid: list[object]) -> list[GridPoint]:
    spec = load_spec(write_toy(folder, base, training={**SHORT, "seeds": 2}))
    return grid_points(spec, {key.replace("__", "."): values for key, values in grid.items()})


def resolved(folder: Path, base: Path, **grid: list[object]) -> list[SweepPoint]:
    return resolve_points(points(folder, base, **grid))


def refuse(task: ResolvedTask, seed: int) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        raise AssertionError(f"{task.spec.prompt}, seed {seed} was trained again")

    return show


def test_each_point_is_what_its_own_training_gives_and_is_found_finished_by_it(
    taught_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = resolved(tmp_path, taught_base, prompt__length=[1, 6], training__learning_rate=["auto", 0.01])
    assert groups(sweep) == [[0, 1, 2, 3]]
    together = train_points(sweep, None)
    assert train_points(sweep, None, refuse) == together
    more = resolved(tmp_path, taught_base, prompt__length=[3])  # a grid with one more point: it alone is trained
    trained_now: set[int] = set()
    train_points([*sweep, *more], None, lambda task, seed: lambda progress: trained_now.add(task.spec.prompt.length))
    assert trained_now == {3}

    for point, trained in zip(sweep, together, strict=True):
        assert [seed.seed for seed in trained.seeds] == [0, 1] and not trained.reason
        # What a lifecycle of these settings does: it finds everything, without reading the base.
        assert tuple(train(resolve(point.grid.spec), on_progress=refuse)) == trained.seeds
        with monkeypatch.context() as patch:
            patch.setenv("SOFTPROMPT_HOME", str(tmp_path / "alone"))
            release()
            alone = train(resolve(point.grid.spec))
        for joint, single in zip(trained.seeds, alone, strict=True):
            weights, expected = (SoftPrompt.load(seed.prompt).weights for seed in (joint, single))
            assert float((weights - expected).norm() / expected.norm()) < 1e-5
            assert (joint.metric, joint.error) == pytest.approx((single.metric, single.error), rel=1e-5)
            assert joint.error == pytest.approx(math.sqrt(joint.metric * (1 - joint.metric) / 23), rel=1e-6)  # 24 rows


def test_a_killed_sweep_goes_on_from_its_checkpoints(taught_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(Exception):
        pass

    def kill(task: ResolvedTask, seed: int) -> Callable[[Progress], None]:
        def show(progress: Progress) -> None:
            if progress.step == 7:
                raise Killed

        return show

    steps: dict[tuple[int, int], list[int]] = {}

    def count(task: ResolvedTask, seed: int) -> Callable[[Progress], None]:
        return lambda progress: steps.setdefault((task.spec.prompt.length, seed), []).append(progress.step)

    sweep = resolved(tmp_path, taught_base, prompt__length=[2, 3])
    monkeypatch.setenv("SOFTPROMPT_CHECKPOINT_S", "0")
    with pytest.raises(Killed):
        train_points(sweep, None, kill)
    train_points(sweep, None, count)
    assert len(steps) == 4 and all(counted == list(range(7, 13)) for counted in steps.values())


def test_points_that_read_other_rows_or_stand_elsewhere_train_apart(taught_base: Path, tmp_path: Path) -> None:
    sweep = resolved(tmp_path, taught_base, prompt__position=["prefix", "suffix"], data__input=["{text}", "{text} so"])
    assert groups(sweep) == [[0], [1], [2], [3]]
    with pytest.raises(ValueError, match="same rows on the same base"):
        train_together([point.task for point in sweep])
    # Lengths cut inputs to different rows only where an input is that long.
    assert groups(resolved(tmp_path, taught_base, data__max_input_tokens=[2, 3, 400, 500])) == [[0, 1, 2, 3]]


def test_points_that_would_train_the_same_prompt_are_refused(taught_base: Path, tmp_path: Path) -> None:
    same = points(tmp_path, taught_base, data__slices__film=["text == 'a'", "text == 'b'"])
    with pytest.raises(InvalidInput, match=r"trains the same prompt as data\.slices\.film"):
        resolve_points(same)


def test_a_point_that_does_not_fit_the_base_is_named(taught_base: Path, tmp_path: Path) -> None:
    sweep = resolved(tmp_path, taught_base, prompt__length=[4, 1000])
    with pytest.raises(InvalidInput, match=r"--grid prompt.length=1000: prompt.length: a prompt of 1000 vectors does not fit"):
        check_points(sweep, None)


def point(length: int, metric: float | None, error: float | None = 0.02, loss: float = 1.0) -> PointResult:
    seeds = () if metric is None else (metric,)
    return PointResult(settings={"prompt.length": length}, length=length, seeds=seeds, metric=metric, error=error, loss=loss)


def test_the_shortest_within_one_standard_error_of_the_best_is_the_frugal_choice() -> None:
    sweep = [point(100, 0.80), point(20, 0.79), point(5, 0.781), point(1, 0.779), point(2, None)]
    assert choose(sweep) == (0, 2) and within(sweep, 0) == [0, 1, 2]
    assert "prompt.length=5" in advice(sweep, 0, 2, 80) and "one-standard-error rule" in advice(sweep, 0, 2, 80)
    assert choose([point(100, 0.8, error=None), point(5, 0.79)]) == (0, 0)
    assert choose([point(2, None)]) is None


def test_equal_metrics_go_by_loss_then_by_length() -> None:
    assert choose([point(5, 0.8, loss=0.5), point(9, 0.8, loss=0.4)]) == (1, 0)
    assert choose([point(9, 0.8), point(5, 0.8), point(5, 0.8)]) == (1, 1)
    assert "One other point" in advice([point(5, 0.8), point(5, 0.79)], 0, 0, 80)
    assert "No other point" in advice([point(5, 0.8), point(1, 0.5)], 0, 0, 80)


def test_the_standard_error_of_several_seeds_counts_rows_once_and_seeds_by_their_number() -> None:
    assert standard_error([0.7], [0.05]) == 0.05
    assert standard_error([0.6, 0.8], [0.03, 0.04]) == pytest.approx(math.sqrt((0.03**2 + 0.04**2) / 2 + 0.02 / 2))
    assert standard_error([0.6, 0.8], [0.03, None]) is None


def test_a_result_comes_back_equal_from_json() -> None:
    swept = SweepResult(task="toy", outcome=None, reason="", points=(point(5, 0.8),), best=0, frugal=0, chosen=0)
    value = swept.model_dump(mode="json")
    assert (value["outcome"], value["exit_code"]) == ("swept", 0) and SweepResult.model_validate(value) == swept


def test_a_text_task_has_a_standard_error_too(taught_base: Path, tmp_path: Path) -> None:
    spec = load_spec(write_toy(tmp_path, taught_base, name="text", gates=None, training=SHORT, data=_text()))
    (trained,) = train(resolve(spec))
    assert best_seed([trained]).metric < 0 and trained.error is not None and trained.error > 0
    assert torch.isfinite(torch.tensor(trained.error))


def _text() -> dict[str, object]:
    files = {"train": "train.csv", "validation": "validation.csv", "test": "test.csv"}
    return {"source": {"files": files}, "input": "{text}", "target": {"template": "{label}"}}
