"""What a training shows while it runs: an estimate that is never wild, where it goes on, and why it ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from softprompt_core.lifecycle.progress import Remaining, furthest, training_progress
from softprompt_core.lifecycle.resolve import resolve
from softprompt_core.lifecycle.train import train
from softprompt_core.spec import load_spec
from softprompt_core.training import Progress
from tests.toy_task import write_toy

AT = Progress(step=1, max_steps=1000, loss=0.5, metric=0.6, best_step=0, best_metric=0.6, seconds=1.0, earliest_end=300)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_first_step_which_fills_the_cache_counts_for_nothing() -> None:
    clock = Clock()
    remaining = Remaining(clock)
    clock.now = 600.0  # of a run of some 700 s
    assert remaining.after(AT) is None
    for step in range(2, 200):
        clock.now += 0.1
        least, most = remaining.after(replace(AT, step=step)) or (0, 0)
        assert least == pytest.approx(0.1 * (300 - step)) and most == pytest.approx(0.1 * (1000 - step))


def test_it_follows_steps_that_become_slower_and_a_gain_puts_the_end_off() -> None:
    clock = Clock()
    remaining = Remaining(clock)
    for step in range(1, 400):
        clock.now += 0.1 if step < 200 else 1.0
        left = remaining.after(replace(AT, step=step, earliest_end=500))
    assert left is not None and left == pytest.approx((101, 601))
    clock.now += 1.0
    assert remaining.after(replace(AT, step=400, earliest_end=300)) == pytest.approx((0.0, 600)), "never below nothing"


def test_lines_tell_how_far_it_is_and_how_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    with training_progress() as display:
        show = display("toy seed 0")
        for step in range(1, 61):
            show(replace(AT, step=step, max_steps=100, best_step=40, earliest_end=60, stopped="no improvement" * (step == 60)))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "  toy seed 0: step 1/100 loss 0.500 validation 0.600"
    assert len(lines) == 7 and all(line.endswith(" left") for line in lines[1:-1])
    assert lines[-1] == ("  toy seed 0: ended at step 60 of 100, no improvement; best validation 0.600 at step 40, which is kept")


def test_many_prompts_in_one_display_show_the_furthest_and_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    with training_progress() as display:
        show = furthest(display("two points"))
        for step in range(1, 11):
            for metric in (0.3, 0.9):
                show(replace(AT, step=step, max_steps=10, metric=metric, stopped="reached max_steps" * (step == 10)))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10 and "validation 0.300" in lines[0] and "validation 0.900" in lines[1]
    assert not any("ended" in line for line in lines)


def test_a_training_from_python_shows_itself_and_says_where_it_goes_on(
    taught_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Killed(Exception):
        pass

    def kill(progress: Progress) -> None:
        if progress.step == 7:
            raise Killed

    monkeypatch.setenv("SOFTPROMPT_CHECKPOINT_S", "0")
    spec = load_spec(write_toy(tmp_path, taught_base, training={"max_steps": 12, "eval_every": 4, "batch_size": 16}))
    with pytest.raises(Killed):
        train(resolve(spec), on_progress=lambda task, seed: kill)
    assert capsys.readouterr().err == ""
    (trained,) = train(resolve(spec))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "  toy seed 0: continues at step 6 of 12"
    assert lines[-1].startswith("  toy seed 0: ended at step 12 of 12, reached max_steps; best validation ")
    assert f"best validation {trained.metric:.3f} at step" in lines[-1]
