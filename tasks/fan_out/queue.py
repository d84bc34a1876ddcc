"""What is to be done, who is doing it, and what came out. Runs as one Ray actor; knows nothing of Ray itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from softprompt_core.errors import Unavailable

TRIES = 5  # an item whose worker died so often is given up: it may be what kills them


@dataclass(frozen=True)
class Item:
    """One call.

    Attributes:
        label: its name in messages.
        base: items with equal words need the same base; a worker that has it loaded takes them first.
        arguments: of the call; small, they travel by message.
    """

    label: str
    base: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Worker:
    """A process of the cluster as it presents itself: a number that it keeps when it is started again elsewhere, its place and
    its name in the record (``softprompt_core.registry.processes``)."""

    number: int
    node: str
    process: str


@dataclass(frozen=True)
class Taken:
    """An item for a worker. ``before`` names the processes that died over it."""

    index: int
    item: Item
    before: tuple[str, ...]


class Queue:
    """Every item is held by one worker at a time, and has one result."""

    def __init__(self, items: Sequence[Item], tries: int = TRIES) -> None:
        self._items = items
        self._tries = tries
        self._waiting = list(range(len(items)))
        self._held: dict[int, Worker] = {}
        self._before: dict[int, tuple[str, ...]] = {}
        self._base: dict[int, str] = {}
        self._results: dict[int, Any] = {}
        self._called: set[int] = set()
        self._events: list[str] = []

    def take(self, worker: Worker) -> Taken | None:
        """The next item of a worker; None when there is nothing left to take.

        A worker that still holds something was started again after its process died: it goes on with that.
        """
        for index in [index for index, holder in self._held.items() if holder.number == worker.number]:
            self._lose(index)
        self._called.add(worker.number)
        while self._waiting:
            index = self._next(worker.number)
            self._waiting.remove(index)
            before = self._before.get(index, ())
            if len(before) >= self._tries:
                self._results[index] = Unavailable(
                    f"{len(before)} workers died over it, one after the other",
                    where=self._items[index].label,
                    do="look for the reason in the logs of Ray; often it is memory: give a task more, or make batches smaller",
                )
                continue
            self._held[index] = worker
            self._base[worker.number] = self._items[index].base
            return Taken(index, self._items[index], before)
        return None

    def done(self, index: int, result: Any) -> None:
        """What came out of an item, an exception included. The first answer counts."""
        self._held.pop(index, None)
        if index in self._waiting:
            self._waiting.remove(index)
        self._results.setdefault(index, result)

    def say(self, words: str) -> None:
        """Something for the person at the driver."""
        self._events.append(words)

    def look(self, living_nodes: Sequence[str] | None = None) -> tuple[list[str], bool]:
        """What was said since the last look, and whether all is done. Items of workers on other nodes than the living are free
        again, so that they need not wait for a place for their worker."""
        if living_nodes is not None:
            for index, holder in list(self._held.items()):
                if holder.node not in living_nodes:
                    self._lose(index)
        said, self._events = self._events, []
        return said, len(self._results) == len(self._items)

    def called(self) -> set[int]:
        """Numbers of the workers that have asked for something, and are not known to be dead."""
        return self._called

    def results(self) -> dict[int, Any]:
        return self._results

    def _lose(self, index: int) -> None:
        holder = self._held.pop(index)
        self._called.discard(holder.number)
        self._before[index] = (*self._before.get(index, ()), holder.process)
        self._waiting.insert(0, index)
        self._events.append(f"{self._items[index].label}: its worker {holder.number} died; it goes on from its last checkpoint")

    def _next(self, number: int) -> int:
        """What was lost first, then what needs the base that the worker has, then the base that most items wait for, counted by
        the workers that have it already."""
        if self._before.get(self._waiting[0]):
            return self._waiting[0]
        mine = self._base.get(number)
        bases = Counter(self._items[index].base for index in self._waiting)
        having = Counter(base for other, base in self._base.items() if other != number)
        best = mine if mine in bases else max(bases, key=lambda base: bases[base] / (1 + having[base]))
        return next(index for index in self._waiting if self._items[index].base == best)
