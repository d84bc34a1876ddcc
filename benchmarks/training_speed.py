"""Training: our side against PEFT with the Trainer and PEFT in a hand-written loop; and the losses of all side by side."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch

from benchmarks import ours, peers, shapes
from benchmarks.measure import Cost, Stopwatch, alternate
from benchmarks.page import Requirement, Section
from benchmarks.peak import matmul_peak, useful
from benchmarks.plan import Plan, Setting


def speed(plan: Plan) -> Section:
    """Seconds a step over one epoch; ours after a first epoch (which fills a suffix's cache), the peers after a first step."""
    peak = matmul_peak(plan)
    rows, requirements = [], []
    for settings, rounds in ((plan.settings, plan.rounds), (plan.extras, 1)):
        for setting in settings:
            row, requirement = _compare(plan, setting, rounds, peak)
            rows.append(row)
            if requirement:
                requirements.append(requirement)
    words = (
        f"Wall seconds a training step (CPU seconds of all threads in brackets), {plan.rows} rows in batches of {plan.batch}, "
        f"AdamW, {plan.rounds} rounds. "
        "Each side makes its own batches, shuffled and padded to the longest row; ours hold rows of similar length. The loss is "
        "the cross entropy over the whole vocabulary on every side; *label loss* is the library's default for "
        "classification, which the peers do not have. PEFT knows prefix prompts only, so a suffix row compares with PEFT's "
        "prefix of the same length. *Of peak*: operations a second that the work cannot do without (`benchmarks/peak.py`), "
        f"as a share of the measured {peak / 1e9:,.0f} GFLOP/s of a matrix product of size {plan.matrix}."
    )
    headings = ["Setting", "PEFT + Trainer", "PEFT, own loop", "Ours", "Trainer / ours", "Loop / ours", "Of peak"]
    return Section("Training speed", words, headings, rows, requirements)


def _compare(plan: Plan, setting: Setting, rounds: int, peak: float) -> tuple[list[str], Requirement | None]:
    model = plan.model(setting.shape)
    examples = shapes.examples(model, plan.rows, setting.tokens)
    start, base = shapes.start(model, setting.prompt), ours.base_of(model)
    epoch = math.ceil(plan.rows / plan.batch)

    def timed(train: Callable[[shapes.Recipe, Stopwatch], Any], skip: int) -> Callable[[], Cost]:
        def side() -> Cost:
            watch = Stopwatch(skip, skip + epoch)
            train(shapes.Recipe(skip + epoch, plan.batch, position=setting.position), watch)
            return watch.per_step()

        return side

    sides = {"trainer": timed(lambda recipe, watch: peers.with_trainer(model, examples, start, recipe, watch), 1)}
    if plan.by_hand and rounds > 1:
        sides["loop"] = timed(lambda recipe, watch: peers.by_hand(model, examples, start, recipe, watch), 1)
    sides["ours"] = timed(
        lambda recipe, watch: ours.train(base, examples, start, recipe, watch, labels_only=setting.labels_only),
        epoch,
    )
    cost = alternate(sides, rounds)
    own = cost["ours"]

    def ratio(side: str) -> str:
        return f"{cost[side].wall / own.wall:.1f}× ({cost[side].cpu / own.cpu:.1f}×)" if side in cost else "–"

    def seconds(side: str) -> str:
        return f"{cost[side].wall:.3g} ({cost[side].cpu:.3g})" if side in cost else "–"

    # CPU seconds by thread, so that other programs on the machine hardly change the share.
    busy = own.cpu / torch.get_num_threads() if plan.device == "cpu" else own.wall
    share = "–"
    if base.kind == "causal" and not setting.labels_only:
        lengths = [len(example.input_ids) for example in examples]
        work = useful(model, lengths, setting.prompt, setting.position, plan.batch) / epoch
        share = f"{work / busy / peak:.0%}"
    row = [setting.words(), seconds("trainer"), seconds("loop"), seconds("ours"), ratio("trainer"), ratio("loop"), share]
    if setting.promised is None:
        return row, None
    what = f"training step against PEFT + Trainer: {setting.tokens} tokens, P={setting.prompt}, {setting.position}"
    if setting.position == "suffix":
        what += " + cache, after the first epoch"
    least, aim = setting.promised
    where = f"{setting.shape}, batches of {plan.batch}, {plan.clock}"
    return row, Requirement(what, plan.counted(cost["trainer"]) / plan.counted(own), least, aim, where)


def equality(plan: Plan) -> Section:
    """The loss of the last step when every side is given the same batches, and the largest difference over all steps."""
    rows = []
    worst = 0.0
    positions: tuple[Literal["prefix", "suffix"], ...] = ("prefix", "suffix")
    for position in positions:
        losses = _losses(plan, position)
        plain = losses["plain path"]
        for side, values in losses.items():
            differences = [abs(a - b) / abs(b) for a, b in zip(values, plain, strict=True)]
            rows.append([f"{position}: {side}", f"{values[-1]:.7f}", f"{differences[-1]:.1e}", f"{max(differences):.1e}"])
            if side == "ours":
                worst = max(worst, differences[-1])
    words = (
        f"{plan.equal_steps} steps on {plan.main} in float32, 25 tokens, P=20, on every side with the same batches of "
        f"{plan.equal_rows} rows in the same order. *Plain path*: the readable statement of the method, one row at a time, no "
        "cache, no padding. Differences are relative to it."
    )
    setting = f"{plan.main}, {plan.equal_steps} steps, float32"
    requirement = Requirement("final loss, difference to the plain path", worst, 1e-3, 1e-5, setting, "≤", ".1e", "")
    return Section("Equal losses", words, ["Side", "Final loss", "Difference", "Largest of all steps"], rows, [requirement])


def _losses(plan: Plan, position: Literal["prefix", "suffix"]) -> dict[str, list[float]]:
    model = shapes.build(plan.main, plan.device, "float32")  # in half precision rounding alone would differ by more
    examples = shapes.examples(model, 2 * plan.equal_rows, 25)
    start, base = shapes.start(model, 20), ours.base_of(model)
    recipe = shapes.Recipe(plan.equal_steps, plan.equal_rows, position=position)
    order = ours.batches(examples, recipe)

    def losses(train: Callable[[Stopwatch], Any]) -> list[float]:
        watch = Stopwatch(1, recipe.steps, keep_losses=True)
        train(watch)
        return watch.losses

    sides = {
        "plain path": losses(lambda w: ours.train_plainly(base, examples, start, recipe, w, order)),
        "ours": losses(lambda w: ours.train(base, examples, start, recipe, w)),
    }
    if position == "prefix":
        sides["PEFT + Trainer"] = losses(lambda w: peers.with_trainer(model, examples, start, recipe, w, order))
        sides["PEFT, own loop"] = losses(lambda w: peers.by_hand(model, examples, start, recipe, w, order))
    return sides
