"""Training progress on the terminal: a bar with loss, metric and remaining time; plain lines where there is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from softprompt_core.training import Progress as Step


@contextmanager
def training_progress(label: str) -> Iterator[Callable[[int], Callable[[Step], None]]]:
    """Yield a function that gives, for a seed, the one that training calls after each of its steps.

    Writes to stderr, so that ``--json`` stays clean.
    """
    if not sys.stderr.isatty():
        yield lambda seed: _lines(f"{label} seed {seed}")
        return
    columns = (
        TextColumn("  [bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[said]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:

        def of_seed(seed: int) -> Callable[[Step], None]:
            task = bar.add_task(f"{label} seed {seed}", total=None, said="encoding inputs")

            def show(step: Step) -> None:
                said = f"loss {step.loss:.3f}  validation {step.metric:.3f}"
                bar.update(task, total=step.max_steps, completed=step.step, said=said)

            return show

        yield of_seed


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
