"""Training progress on the terminal: a bar with loss, metric and remaining time; plain lines where there is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from softprompt_core.training import Progress as Step


@contextmanager
def training_progress() -> Iterator[Callable[[str], Callable[[Step], None]]]:
    """Yield a function that gives, for what is trained (its name), the one that training calls after each of its steps.

    Writes to stderr, so that ``--json`` stays clean.
    """
    if not sys.stderr.isatty():
        yield _lines
        return
    columns = (
        TextColumn("  [bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[said]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:

        def of(label: str) -> Callable[[Step], None]:
            task = bar.add_task(label, total=None, said="encoding inputs")

            def show(step: Step) -> None:
                said = f"loss {step.loss:.3f}  validation {step.metric:.3f}"
                bar.update(task, total=step.max_steps, completed=step.step, said=said)

            return show

        yield of


def furthest(show: Callable[[Step], None]) -> Callable[[Step], None]:
    """One display for many prompts that are trained together: the step of the furthest, the best validation metric of all."""
    reached, best = 0, float("-inf")

    def one(step: Step) -> None:
        nonlocal reached, best
        best = max(best, step.metric)
        if step.step > reached:
            reached = step.step
            show(replace(step, metric=best))

    return one


def _lines(label: str) -> Callable[[Step], None]:
    said = -1

    def show(step: Step) -> None:
        nonlocal said
        tenth = 10 * step.step // step.max_steps
        if tenth > said:
            said = tenth
            left = step.seconds / step.step * (step.max_steps - step.step)
            now = f"step {step.step}/{step.max_steps} loss {step.loss:.3f} validation {step.metric:.3f}"
            print(f"  {label}: {now}, at most {left:.0f} s left", file=sys.stderr, flush=True)

    return show
