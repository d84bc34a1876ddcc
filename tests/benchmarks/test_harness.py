"""The benchmarks compare like with like: on the same batches every side goes through the same losses. Nothing gates on time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks import ours, peers, shapes
from benchmarks.measure import Cost, Stopwatch, alternate
from benchmarks.memory import Training, peak_bytes

RECIPE = shapes.Recipe(steps=6, batch_size=4)


def losses(train, *options, recipe=RECIPE):
    watch = Stopwatch(skip=1, total=recipe.steps, keep_losses=True)
    prompt = train(*options, recipe, watch)
    return watch.losses, prompt


@pytest.fixture(scope="module", params=["tiny-llama", "tiny-t5"])
def setting(request):
    model = shapes.build(request.param)
    rows = shapes.examples(model, 12, 8)
    return model, rows, shapes.start(model, 5)


def test_every_side_goes_through_the_same_losses(setting):
    pytest.importorskip("peft")
    model, rows, start = setting
    base, order = ours.base_of(model), ours.batches(rows, RECIPE)
    mine, _ = losses(ours.train, base, rows, start)
    plain, plain_prompt = losses(lambda *a: ours.train_plainly(*a, order), base, rows, start)
    trainer, prompt = losses(lambda *a: peers.with_trainer(*a, order), model, rows, start)
    hand, same = losses(lambda *a: peers.by_hand(*a, order), model, rows, start)
    assert len(mine) == RECIPE.steps and max(mine) - min(mine) > 1e-4
    for other in (plain, trainer, hand):
        torch.testing.assert_close(other, mine, rtol=1e-4, atol=1e-5)
    assert not torch.equal(prompt, start)
    torch.testing.assert_close(prompt, plain_prompt, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(same, plain_prompt, rtol=1e-3, atol=1e-4)


def test_a_suffix_goes_through_the_plain_path_s_losses():
    model = shapes.build("tiny-llama")
    rows, start, base = shapes.examples(model, 12, 8), shapes.start(model, 5), ours.base_of(model)
    order, recipe = ours.batches(rows, RECIPE), replace(RECIPE, position="suffix")
    mine, _ = losses(ours.train, base, rows, start, recipe=recipe)
    plain, _ = losses(lambda *a: ours.train_plainly(*a, order), base, rows, start, recipe=recipe)
    torch.testing.assert_close(plain, mine, rtol=1e-4, atol=1e-5)


def test_peers_follow_the_library_s_learning_rates():
    chosen = ours.settings(RECIPE)
    assert [RECIPE.rate(step) for step in range(RECIPE.steps)] == [chosen.rate(step) for step in range(RECIPE.steps)]


def test_rows_have_the_stated_mean_length_and_differ():
    model = shapes.build("tiny-llama")
    lengths = [len(row.input_ids) for row in shapes.examples(model, 2000, 25)]
    assert 23 < sum(lengths) / len(lengths) < 27 and min(lengths) < 12 and max(lengths) > 50
    assert shapes.examples(model, 5, 25) == shapes.examples(model, 5, 25) != shapes.examples(model, 5, 25, seed=1)


def test_warm_up_is_not_measured_and_medians_are_compared():
    watch = Stopwatch(skip=1, total=3)
    with pytest.raises(RuntimeError, match="only 0 of 3"):
        watch.per_step()
    for _ in range(3):
        watch.step(0.0)
    assert watch.per_step().wall >= 0
    order, costs = [], {"a": iter((1.0, 9.0, 2.0)), "b": iter((5.0, 5.0, 5.0))}

    def side(name):
        order.append(name)
        return Cost(next(costs[name]), 0.0)

    costs_of = alternate({name: lambda name=name: side(name) for name in costs}, rounds=3)
    assert order == ["a", "b"] * 3 and costs_of["a"].wall == 2.0 and costs_of["b"].wall == 5.0


def test_peak_memory_is_that_of_the_measured_process_and_not_of_the_one_that_started_it():
    held = bytearray(b"x") * 1_500_000_000
    training = Training(side="ours", shape="tiny-llama", rows=4, batch=2, tokens=8, prompt=4)
    assert 50e6 < peak_bytes(training) < len(held)
