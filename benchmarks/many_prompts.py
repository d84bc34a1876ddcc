"""How time and memory grow: with the number of prompts, with rows, with the prompt's length."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from benchmarks import ours, shapes
from benchmarks.measure import Cost, Stopwatch, alternate, whole
from benchmarks.memory import Training, peak_bytes
from benchmarks.page import Requirement, Section
from benchmarks.plan import Plan

Position = Literal["prefix", "suffix"]


def prompts(plan: Plan) -> Section:
    """K prompts on one base: trained together, and one training after another."""
    model = plan.model(plan.crowd)
    base = ours.base_of(model)
    recipe = shapes.Recipe(steps=2 * math.ceil(plan.crowd_rows / plan.batch), batch_size=plan.batch)
    rows = []
    for count in plan.counts:
        tasks = [shapes.examples(model, plan.crowd_rows, 25, seed) for seed in range(count)]
        starts = [shapes.start(model, 20, seed) for seed in range(count)]

        def together(tasks: Any = tasks, starts: Any = starts) -> None:
            ours.train_joint(base, tasks, starts, recipe)

        def apart(tasks: Any = tasks, starts: Any = starts) -> None:
            for examples, start in zip(tasks, starts, strict=True):
                ours.train(base, examples, start, recipe)

        if count == plan.counts[0]:
            together()  # warm-up
        calls = {"together": together, "apart": apart}
        cost = alternate({name: _whole(call) for name, call in calls.items()}, plan.rounds)
        seconds = [f"{cost[side].wall:.3g} ({cost[side].cpu:.3g})" for side in ("together", "apart")]
        rows.append([str(count), *seconds, f"{_peak(plan, plan.crowd, count=count) / 2**20:,.0f}"])
    words = (
        f"{plan.crowd}, 25 tokens, P=20, prefix, {recipe.steps} steps of {plan.batch} rows a prompt. Wall seconds of the whole "
        "training (CPU seconds in brackets) and the process's peak memory."
    )
    requirements = []
    if 16 in plan.counts:
        one, sixteen = _peak(plan, plan.main), _peak(plan, plan.main, count=16)
        setting = f"{plan.main}, {_peak_words(plan)}"
        what = "memory for 16 prompts trained together, against one"
        requirements = [Requirement(what, sixteen / one, 1.2, 1.05, setting, "≤", ".2f")]
    return Section(
        "Many prompts", words, ["Prompts", "Together, s", "One by one, s", "Together, MiB"], rows, requirements, numbers=0
    )


def memory(plan: Plan) -> Section:
    """Peak memory of one training, ours and the Trainer's."""
    rows = []
    for setting in plan.settings:
        size = dict(tokens=setting.tokens, prompt=setting.prompt, position=setting.position)
        peaks = [_peak(plan, setting.shape, side=side, **size) for side in ("trainer", "ours")]
        rows.append([setting.words(), *(f"{peak / 2**20:,.0f}" for peak in peaks)])
    kind = "allocated on the GPU" if plan.device == "cuda" else "resident set of a fresh process, libraries and model included"
    words = f"MiB at the peak ({kind}), one prompt, {_peak_words(plan)}. A suffix keeps the inputs' keys and values."
    return Section("Memory", words, ["Setting", "PEFT + Trainer", "Ours"], rows)


def growth(plan: Plan) -> Section:
    """Ours alone: an epoch over more rows, and a step with longer prompts."""
    model = plan.model(plan.crowd)
    base = ours.base_of(model)
    sizes = [(count, 20) for count in plan.growing_rows] + [(plan.growing_rows[0], length) for length in plan.lengths]
    rows = []
    for count, length in sizes:
        examples, start = shapes.examples(model, count, 25), shapes.start(model, length)
        epoch = math.ceil(count / plan.batch)

        def side(position: Position, examples: Any = examples, start: Any = start, epoch: int = epoch) -> Cost:
            watch = Stopwatch(epoch, 2 * epoch)
            ours.train(base, examples, start, shapes.Recipe(2 * epoch, plan.batch, position=position), watch)
            step = watch.per_step()
            return Cost(step.wall * epoch, step.cpu * epoch)

        cost = alternate({"prefix": partial(side, "prefix"), "suffix": partial(side, "suffix")}, plan.rounds)
        rows.append([str(count), str(length), *(f"{cost[p].wall:.3g} ({cost[p].cpu:.3g})" for p in ("prefix", "suffix"))])
    words = f"{plan.crowd}, 25 tokens, batches of {plan.batch}: wall (CPU) seconds of the second epoch."
    return Section("Growth with rows and prompt length", words, ["Rows", "P", "Prefix", "Suffix + cache"], rows, numbers=0)


def _whole(call: Callable[[], None]) -> Callable[[], Cost]:
    return lambda: whole(call)


def _peak(plan: Plan, shape: str, **changes: Any) -> int:
    usual = dict(side="ours", device=plan.device, dtype=plan.dtype, rows=2 * plan.batch, batch=plan.batch, tokens=25, prompt=20)
    return peak_bytes(Training.model_validate({"shape": shape, **usual, **changes}))


def _peak_words(plan: Plan) -> str:
    return f"4 steps of {plan.batch} rows"
