"""The driver's side: items, and the Ray actors that work on them."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from softprompt_core import settings
from softprompt_core.errors import Unavailable
from softprompt_core.store import processes
from softprompt_core.store.failures import in_brief
from tasks.ray_pool import cluster
from tasks.ray_pool.worker import Driver, Item, Unfit, Worker, close_runs

TRIES = 5  # an item over which so many workers died is given up: it may be what kills them
_ANSWER_S = 1.0


class _Actor:
    """A worker, with the base that it has loaded and the number of items that it has done."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.process = handle.process.remote()  # there as soon as the cluster has room for the worker
        self.base: str | None = None
        self.items = 0


class Pool:
    """Items and the workers that they are on; a worker has one at a time, and ends when there is none for it."""

    def __init__(self, work: Callable[..., Any], items: Sequence[Item], driver: Driver, take_part: bool) -> None:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        resources = cluster.worker_resources(nodes)
        self._work, self._items, self._driver = work, items, driver
        self._limit = settings.current().ray_workers or cluster.room(resources, nodes)
        # A second thread, for items of work that the worker is itself the driver of.
        options = {"num_cpus": resources["CPU"], "num_gpus": resources["GPU"], "max_concurrency": 2}
        self._class: Any = ray.remote(Worker).options(**options)
        self._own = _Actor(ray.get_runtime_context().current_actor) if take_part else None
        self._idle = [self._own] if self._own else []
        self._running: dict[Any, tuple[_Actor, int]] = {}  # Ray's reference of a call → worker, index of the item
        self._waiting = list(range(len(items)))
        self._dead: dict[int, list[str]] = defaultdict(list)  # index of an item → processes that died over it
        self._results: dict[int, Any] = {}
        self._unfit: list[Unfit] = []

    def run(self) -> list[Any]:
        """The items' results; ``fan_out`` describes them."""
        try:
            while self._waiting or self._running:
                while self._waiting and (self._idle or len(self._running) < self._limit):
                    self._give_next(self._idle.pop() if self._idle else _Actor(self._class.remote(self._driver)))
                if not self._running:
                    break  # no worker is of any use
                for call in ray.wait(list(self._running))[0]:
                    self._receive(call, *self._running.pop(call))
        except BaseException as error:
            self._break_off(error)
            raise
        if self._unfit and not self._waiting:
            _print(f"a worker was of no use: {self._unfit[0]}")
        return [self._unfit[0] if index in self._waiting else self._results[index] for index in range(len(self._items))]

    def _break_off(self, error: BaseException) -> None:
        """End the workers, and in MLflow what they had open: they cannot do it themselves any more."""
        started = [actor.process for actor, _ in self._running.values() if actor is not self._own]
        begun, _ = ray.wait(started, num_returns=len(started), timeout=0) if started else ([], [])
        names = ray.get(begun, timeout=_ANSWER_S) if begun else []
        for actor, _ in self._running.values():
            self._end(actor)
        if names:
            close_runs(names, error)

    def _give_next(self, actor: _Actor) -> None:
        """Give a worker its next item; end it if there is none."""
        index = self._next(actor.base)
        if index is not None:
            item = self._items[index]
            actor.base = item.base
            call = actor.handle.call.remote(self._work, item, self._dead[index])
            self._running[call] = actor, index
            return
        with suppress(RayActorError):
            process, loaded = ray.get([actor.process, actor.handle.finish.remote()])
            _print(f"worker {processes.describe(process)}: items {actor.items}, bases loaded {loaded}")
        self._end(actor)

    def _next(self, base: str | None) -> int | None:
        """Index of the next item for a worker with this base: what was lost first, then what needs the base, then the base that
        the fewest others have; where none waits, what another worker has not begun, since there was no room for it yet."""
        if self._waiting:
            needed = [item.base for item in self._items]
            others = Counter(actor.base for actor, _ in self._running.values())
            index = min(self._waiting, key=lambda i: (not self._dead[i], needed[i] != base, others[needed[i]], i))
            self._waiting.remove(index)
            return index
        for call, (actor, index) in self._running.items():
            if actor is not self._own and not ray.wait([actor.process], timeout=0)[0]:
                del self._running[call]
                self._end(actor)
                return index
        return None

    def _receive(self, call: Any, actor: _Actor, index: int) -> None:
        """Take what came of a call, and give its worker another item."""
        try:
            result = ray.get(call)
        except RayActorError as error:
            self._lose(actor, index, error)
            return
        except RayTaskError as error:  # of a result that cannot be pickled, for one
            result = Unavailable(in_brief(error.cause), where=self._items[index].label)
        if isinstance(result, Unfit):
            self._unfit.append(result)
            self._limit -= 1
            self._waiting.append(index)
            self._end(actor)
            return
        self._results[index] = result
        actor.items += 1
        self._give_next(actor)

    def _lose(self, actor: _Actor, index: int, error: Exception) -> None:
        """A worker died: its item waits again, or is given up."""
        label, dead = self._items[index].label, self._dead[index]
        try:
            dead.append(ray.get(actor.process))
        except RayActorError:
            dead.append("")  # it had not begun
        self._end(actor)  # it may only be out of reach
        if len(dead) < TRIES:
            _print(f"{label}: its worker died; it goes on from its last checkpoint")
            self._waiting.append(index)
            return
        what = f"{TRIES} workers died over it, one after the other; the last: {in_brief(error)}"
        do = "look for the reason in the logs of Ray; often it is memory: give a task more, or make batches smaller"
        self._results[index] = Unavailable(what, where=label, do=do)

    def _end(self, actor: _Actor) -> None:
        if actor is self._own:
            self._idle.append(actor)
        else:
            ray.kill(actor.handle)


def _print(message: str) -> None:
    print(f"  {message}", file=sys.stderr, flush=True)
