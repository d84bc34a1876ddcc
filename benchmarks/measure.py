"""Clocks. Sides alternate (A B A B …) in one process on one machine, and medians are compared.

``cpu`` is the time of all threads of the process. On a GPU the device is synchronised where a clock is read, at both ends of a
measured stretch and nowhere else.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Cost:
    """Seconds."""

    wall: float
    cpu: float

    def __truediv__(self, by: float) -> Cost:
        return Cost(self.wall / by, self.cpu / by)


class Stopwatch:
    """Counts training steps; the first ``skip`` are warm-up, the rest up to ``total`` are measured.

    Losses are kept only if asked for: reading one waits for the device, which some sides would not do otherwise.
    """

    def __init__(self, skip: int, total: int, keep_losses: bool = False) -> None:
        if not 0 < skip < total:
            raise ValueError(f"{skip} of {total} steps as warm-up leave nothing to measure, or no warm-up")
        self.skip, self.total, self.keep_losses = skip, total, keep_losses
        self.losses: list[float] = []
        self._count = 0
        self._from = self._to = Cost(0.0, 0.0)

    def step(self, loss: float | torch.Tensor) -> None:
        """Call after every optimiser step."""
        self._count += 1
        if self.keep_losses:
            self.losses.append(float(loss))
        if self._count == self.skip:
            self._from = now()
        elif self._count == self.total:
            self._to = now()

    def per_step(self) -> Cost:
        if self._count < self.total:
            raise RuntimeError(f"only {self._count} of {self.total} steps were made")
        return Cost(self._to.wall - self._from.wall, self._to.cpu - self._from.cpu) / (self.total - self.skip)


def now() -> Cost:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Cost(time.perf_counter(), time.process_time())


def whole(call: Callable[[], object]) -> Cost:
    """Cost of one call."""
    begin = now()
    call()
    end = now()
    return Cost(end.wall - begin.wall, end.cpu - begin.cpu)


def alternate(sides: Mapping[str, Callable[[], Cost]], rounds: int) -> dict[str, Cost]:
    """Median cost of every side over ``rounds`` rounds, in each of which every side runs once."""
    rounds_of: dict[str, list[Cost]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            gc.collect()  # nobody pays for another side's garbage
            rounds_of[name].append(side())
    return {
        name: Cost(statistics.median(c.wall for c in costs), statistics.median(c.cpu for c in costs))
        for name, costs in rounds_of.items()
    }
