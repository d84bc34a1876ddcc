"""Training on the terminal: a bar with loss, metric and remaining time, or plain lines; where it goes on, where and why it ends.

Everything goes to stderr, so that ``--json`` stays clean.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from softprompt_core.training import Progress

Show = Callable[["Progress"], None]
_RECENT = 100


class Remaining:
    """Estimates how long a training will go on.

    The first step is left out: it fills the cache of inputs and takes many times as long as any other. Checks of validation rows
    count as a part of the steps between them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[int, float]] = deque(maxlen=_RECENT)

    def after(self, progress: Progress) -> tuple[float, float] | None:
        """Seconds until the training ends if nothing improves any more, and at most; None before there is anything to go by."""
        self._seen.append((progress.step, self._clock()))
        (first, began), (last, now) = self._seen[0], self._seen[-1]
        if last == first:
            return None
        each = (now - began) / (last - first)
        return each * max(progress.earliest_end - last, 0), each * (progress.max_steps - last)


@contextmanager
def training_progress() -> Iterator[Callable[[str], Show]]:
    """Yield a function that gives, for what is trained (its name), the one that training calls after each of its steps."""
    if not sys.stderr.isatty():
        yield _lines
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("  [bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[now]}"))
    with Bars(*columns, console=Console(stderr=True)) as bars:

        def of(label: str) -> Show:
            task = bars.add_task(label, total=None, now="reading inputs; the first step takes longest")
            remaining = Remaining()

            def show(progress: Progress) -> None:
                _tell(label, progress, lambda line: bars.console.print(line, highlight=False, markup=False))
                now = ", ".join(filter(None, (_scores(progress), _left(remaining.after(progress)))))
                bars.update(task, total=progress.max_steps, completed=progress.step, now="" if progress.stopped else now)

            return show

        yield of


def furthest(show: Show) -> Show:
    """One display for many prompts that are trained together: the step of the furthest, and the best validation metric of all."""
    reached, best, latest_end = 0, float("-inf"), 0

    def one(progress: Progress) -> None:
        nonlocal reached, best, latest_end
        best, latest_end = max(best, progress.metric), max(latest_end, progress.earliest_end)
        if progress.step > reached:
            reached = progress.step
            show(replace(progress, metric=best, earliest_end=latest_end, stopped=""))

    return one


def _lines(label: str) -> Show:
    """A line each tenth, in plain text."""
    shown, remaining = -1, Remaining()

    def show(progress: Progress) -> None:
        nonlocal shown
        left = remaining.after(progress)
        _tell(label, progress, _print)
        tenth = 10 * progress.step // progress.max_steps
        if tenth > shown and not progress.stopped:
            shown = tenth
            now = f"step {progress.step}/{progress.max_steps} {_scores(progress)}"
            _print(", ".join(filter(None, (f"  {label}: {now}", _left(left)))))

    return show


def _tell(label: str, progress: Progress, say: Callable[[str], None]) -> None:
    """Where a training goes on from, and how it ended."""
    if progress.began_at and progress.step == progress.began_at + 1:
        say(f"  {label}: continues at step {progress.began_at} of {progress.max_steps}")
    if progress.stopped:
        best = f"best validation {progress.best_metric:.3f} at step {progress.best_step}, which is kept"
        say(f"  {label}: ended at step {progress.step} of {progress.max_steps}, {progress.stopped}; {best}")


def _scores(progress: Progress) -> str:
    return f"loss {progress.loss:.3f} validation {progress.metric:.3f}"


def _left(seconds: tuple[float, float] | None) -> str:
    """``40 s left``, or ``40 s to 11 min left`` where the training may end early."""
    if seconds is None:
        return ""
    least, most = map(_duration, seconds)
    return f"{most} left" if least == most else f"{least} to {most} left"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
