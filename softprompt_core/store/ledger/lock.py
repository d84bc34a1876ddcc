"""A lock for decisions about one task, across machines, with MLflow as the only thing that they share.

MLflow has no locks and no compare-and-set. Every SQL store behind it does give this: the number of a new model version is
the largest number plus one, it is unique by primary key, and a number is computed only from versions that are committed. So
versions of one registered model serve as tickets of a queue (Lamport's bakery algorithm, with numbers from the database): a
process that sees ticket *n* sees every ticket below it. The lowest ticket that was not given back holds the lock. Numbers never
repeat, not even after a deletion, so giving back the ticket of a dead process can never hit another process's.

A holder that dies leaves its ticket behind. The ticket of a process of the same machine that is certainly gone is deleted at
once. Any other ticket must show a heartbeat (the tag ``beat``) at least every ``lease_s`` seconds *while another process watches
it*: those who wait measure with their own clocks, so clocks of different machines need not agree. Before every write the
holder sends a heartbeat, a request that fails once its ticket was deleted.

What no such lock can prevent: a holder that is stopped for ``lease_s`` seconds exactly between a heartbeat and the write that
follows it. The next decision sees that the alias is not where the ledger says, and records that.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from softprompt_core.errors import Unavailable
from softprompt_core.store import processes
from softprompt_core.store.connection import Store
from softprompt_core.store.file_lock import locked
from softprompt_core.store.reading import StoredVersion
from softprompt_core.store.retrying import retrying
from softprompt_core.store.tags import BEAT, LOCKS, NONCE, OWNER, TASK

T = TypeVar("T")

_COLLISIONS_S = 10.0
_COLLISION_CODES = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "BAD_REQUEST")
_DESCRIPTION = (
    "Tickets that keep decisions about soft prompts apart. Not a model. Deleting it is safe while nothing is being decided."
)

_released: set[str] = set()  # nonces of this process; a store that was away may still have their tickets


@dataclass(frozen=True)
class LockTimes:
    """Times of the lock, in seconds.

    Attributes:
        lease_s: a ticket without a heartbeat for so long is deleted; longer than any single request, with MLflow's retries.
        heartbeat_s: how often a process that waits sends one.
        patience_s: how long to wait for one holder that is alive; however many hold it one after the other.
        poll_s: between two looks at the queue, at least and at most.
    """

    lease_s: float = 120.0
    heartbeat_s: float = 10.0
    patience_s: float = 300.0
    poll_s: tuple[float, float] = (0.05, 0.5)


class LockLost(Unavailable):
    """Another process took this one for dead and went on; this one must not write any more."""


class DecisionLock:
    """The right to write decisions about one task, from ``acquire`` to ``release``."""

    def __init__(self, store: Store, task: str, times: LockTimes = LockTimes(), owner: str | None = None) -> None:
        """``owner``: the process that holds it, this one by default (``processes``)."""
        self.store, self.task = store, task
        self._times, self._owner = times, owner or processes.this_process()
        self._nonce = secrets.token_hex(8)
        self._ticket: int | None = None
        self._beats = 0
        self._last_beat = time.monotonic()

    def heartbeat(self, step: str) -> None:
        """Called right before each write, which ``step`` names.

        Raises:
            LockLost: another process has the lock by now.
        """
        from mlflow.exceptions import MlflowException

        assert self._ticket is not None
        self._beats, self._last_beat = self._beats + 1, time.monotonic()
        try:
            _writer(self.store).set_model_version_tag(LOCKS, str(self._ticket), BEAT, str(self._beats))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise LockLost(
                f"this process was silent for so long that another one took its turn; not done: {step}",
                where=self.task,
                do="look at `softprompt registry history`, then try again",
            ) from None

    def acquire(self) -> None:
        """Wait until there is no ticket below ours.

        Raises:
            Unavailable: a process that is alive has held the lock for ``patience_s``.
        """
        self._draw()
        began, holder = time.monotonic(), 0  # numbers begin at 1
        last_beats: dict[int, tuple[str, float]] = {}  # ticket → its heartbeat, and when we first saw that one
        while ahead := self._tickets_ahead():
            if ahead[0].version != holder:
                began, holder = time.monotonic(), ahead[0].version
            for ticket in ahead:
                beat, seen = ticket.tags.get(BEAT, ""), last_beats.get(ticket.version)
                if seen is None or seen[0] != beat:
                    seen = last_beats[ticket.version] = (beat, time.monotonic())
                silent_s = time.monotonic() - seen[1]
                if silent_s > self._times.lease_s or ticket.tags.get(NONCE) in _released or _is_dead(ticket):
                    _delete(self.store, ticket)
            if time.monotonic() - began > self._times.patience_s:
                owner = processes.describe(ahead[0].tags.get(OWNER, ""))
                raise Unavailable(
                    f"{owner}, has been busy with a decision for {self._times.patience_s:.0f} s",
                    where=self.task,
                    do="wait for it, or end it",
                )
            if time.monotonic() - self._last_beat > self._times.heartbeat_s:
                self.heartbeat("waiting")
            time.sleep(random.uniform(*self._times.poll_s))

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Send heartbeats from a thread while a block lasts that writes nothing under the lock for a long time."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(self._times.heartbeat_s):
                with suppress(Exception):  # MLflow may be away for a moment; whoever then takes the turn is told by nobody
                    self.heartbeat("still at work")

        thread = threading.Thread(target=beat, daemon=True, name="lock heartbeat")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(1.0)  # a request to a dead server takes its time, and does no harm later

    def release(self) -> None:
        """Delete the ticket. A store that does not answer is no reason to fail now: the next process deletes it."""
        _released.add(self._nonce)
        with suppress(Exception):
            for ticket in self._own(self._queue()):
                _delete(self.store, ticket)

    def _draw(self) -> None:
        from mlflow.exceptions import MlflowException

        tags = {TASK: self.task, OWNER: self._owner, NONCE: self._nonce, BEAT: "0"}

        def create() -> object:
            # A version must have a source, though nothing ever reads this one; servers refuse local paths and web addresses.
            return self.store.client.create_model_version(LOCKS, "s3://softprompt-ticket/none", tags=tags)

        try:
            _retry_collisions(create)
        except MlflowException as error:
            # Not asked for beforehand: MLflow reads every ticket that was ever drawn to describe the queue.
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            with _ignored("RESOURCE_ALREADY_EXISTS"):
                self.store.client.create_registered_model(LOCKS, description=_DESCRIPTION)
            _retry_collisions(create)

    def _tickets_ahead(self) -> list[StoredVersion]:
        queue = self._queue()
        own = self._own(queue)
        if not own:
            raise LockLost("the ticket of this process was deleted while it waited", where=self.task, do="try again")
        self._ticket = own[0].version
        return queue[: queue.index(own[0])]

    def _queue(self) -> list[StoredVersion]:
        return [ticket for ticket in tickets(self.store) if ticket.tags.get(TASK) == self.task]

    def _own(self, queue: list[StoredVersion]) -> list[StoredVersion]:
        # A request that was sent twice has drawn two.
        return [ticket for ticket in queue if ticket.tags.get(NONCE) == self._nonce]


@contextmanager
def decision_lock(store: Store, task: str, times: LockTimes = LockTimes()) -> Iterator[DecisionLock]:
    """Hold the lock of ``task``. A lock in ``home`` comes first: it keeps processes of one machine from crowding the store.

    Raises:
        Unavailable: another process has been busy for minutes.
    """
    with locked(store.addresses, f"decision {task}", timeout_s=times.patience_s + times.lease_s):
        lock = DecisionLock(store, task, times)
        try:
            lock.acquire()
            yield lock
        finally:
            lock.release()


@contextmanager
def comparing_turn(store: Store, task: str) -> Iterator[None]:
    """Wait for those who lost against another champion before, and keep the turn for as long as the block lasts.

    It takes minutes to compare with a new champion. Those who all do so at once would all but one do it in vain, again and again.
    The turn keeps them apart and in their order; decisions do not depend on it.

    Raises:
        Unavailable: one of them has been at it for an hour.
    """
    lock = DecisionLock(store, f"comparing {task}", LockTimes(patience_s=3600.0, poll_s=(0.2, 1.0)))
    try:
        store.retry(lock.acquire)  # with many processes a database may be busy for a moment
        with lock.kept_alive():
            yield
    finally:
        lock.release()


def tickets(store: Store) -> list[StoredVersion]:
    """All tickets that were not given back, in the order in which they were drawn."""
    return sorted(store.reader.versions(LOCKS), key=lambda ticket: ticket.version)


def clear_dead_tickets(store: Store) -> list[str]:
    """Delete the tickets of processes that are certainly gone; returns their tasks."""
    dead = [ticket for ticket in tickets(store) if _is_dead(ticket)]
    for ticket in dead:
        _delete(store, ticket)
    return [ticket.tags.get(TASK, "?") for ticket in dead]


def _is_dead(ticket: StoredVersion) -> bool:
    return processes.certainly_gone(ticket.tags.get(OWNER, ""))


def _delete(store: Store, ticket: StoredVersion) -> None:
    with _ignored("RESOURCE_DOES_NOT_EXIST"):
        _retry_collisions(lambda: _writer(store).delete_model_version(LOCKS, str(ticket.version)))


def _writer(store: Store) -> Any:
    """A client that writes to tickets at a cost that does not grow with their number.

    ``MlflowClient`` looks before each write whether the model is one of MLflow's prompts, and for that the store reads every
    version that the model ever had: after 100,000 decisions 2.7 s on SQLite, a dozen times a decision. The client behind it
    does not look. It is no public name, so without it the public client is used.
    """
    inner = getattr(store.client, "_get_registry_client", None)
    return inner() if inner is not None else store.client


@contextmanager
def _ignored(code: str) -> Iterator[None]:
    """Pass over the error that MLflow raises when another process was faster."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != code:
            raise


def _retry_collisions(call: Callable[[], T]) -> T:
    """MLflow gives up after three collisions on a number, and SQLite when it is busy; with many processes that is no failure."""
    return retrying(_COLLISIONS_S, lambda error: getattr(error, "error_code", "") in _COLLISION_CODES, pause_s=(0.02, 0.2))(call)
