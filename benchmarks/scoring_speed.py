"""Label ranking of inputs that were never seen before: with a prompt against the bare model, and many tasks in one batch."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from benchmarks import ours, shapes
from benchmarks.measure import Cost, alternate, whole
from benchmarks.page import Requirement, Section
from benchmarks.plan import Plan
from softprompt_core.base_model.loading import BaseModel

_TASKS = (1, 8, 64)


def scoring(plan: Plan) -> Section:
    model = plan.model(plan.main)
    base = ours.base_of(model)
    rounds = 3 * plan.rounds  # a pass takes seconds only, so that other programs of the machine show in it
    rows, requirements = [], []
    for tokens in plan.scored_tokens:
        examples = shapes.examples(model, plan.scored_rows, tokens)
        prompts = {length: shapes.start(model, length) for length in (20, 100)}

        def scored(prompt: Tensor | None, position: str, examples: list[shapes.Example] = examples) -> Callable[[], Cost]:
            return lambda: whole(lambda: ours.score(base, prompt, position, examples))

        sides = {"no prompt": scored(None, "prefix")}
        sides |= {f"P={n}, prefix": scored(prompt, "prefix") for n, prompt in prompts.items()}
        sides["P=20, suffix"] = scored(prompts[20], "suffix")
        for prompt in (None, *prompts.values()):  # warm-up, after which the prompts' keys and values are kept
            ours.score(base, prompt, "prefix", examples[:8])
        cost = alternate(sides, rounds)
        bare = plan.counted(cost["no prompt"])
        rows += [
            [f"{tokens} tokens, {side}", f"{len(examples) / plan.counted(c):,.0f}", f"{bare / plan.counted(c):.2f}"]
            for side, c in cost.items()
        ]
        if tokens == 25:
            ratio = bare / plan.counted(cost["P=20, prefix"])
            setting = f"{plan.main}, {tokens} tokens, P=20, prefix, {len(examples)} rows"
            requirements.append(
                Requirement("scoring with a prompt against without, rows/s", ratio, 0.9, 1.0, setting, digits=".2f")
            )
    mixed, requirement = _mixed(plan, base, rounds)
    rows += mixed
    requirements.append(requirement)
    words = (
        f"{plan.main}, four labels of one token, {plan.scored_rows} rows, {rounds} rounds, {plan.clock}. "
        "Every pass starts from fresh inputs; the prompts' keys and values are there already, as in service. "
        "The ratio is to the bare model, for several tasks to one."
    )
    return Section("Scoring", words, ["Setting", "Rows/s", "Ratio"], rows, requirements)


def _mixed(plan: Plan, base: BaseModel, rounds: int) -> tuple[list[list[str]], Requirement]:
    """Rows of several tasks in one batch, each row with its own prompt."""
    examples = shapes.examples(base.model, plan.scored_rows, 25)
    prompts = [shapes.start(base.model, 20, seed) for seed in range(max(_TASKS))]

    def scored(tasks: int) -> Callable[[], Cost]:
        return lambda: whole(lambda: ours.score_mixed(base, prompts[:tasks], examples))

    ours.score_mixed(base, prompts, examples[: len(prompts)])  # likewise
    sides = {f"{tasks} tasks": scored(tasks) for tasks in _TASKS}
    cost = alternate(sides, rounds)
    one = plan.counted(cost["1 tasks"])
    rows = [
        [f"25 tokens, P=20, prefix, {side} mixed", f"{len(examples) / plan.counted(c):,.0f}", f"{one / plan.counted(c):.2f}"]
        for side, c in cost.items()
    ]
    what = "64 tasks mixed in a batch against 1 task, rows/s"
    return rows, Requirement(
        what, one / plan.counted(cost["64 tasks"]), 0.8, 1.0, f"{plan.main}, {len(examples)} rows", digits=".2f"
    )
