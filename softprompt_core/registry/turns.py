"""One decision about a task at a time, on all machines, with MLflow as the only thing that they share.

MLflow has no locks and no compare-and-set. What every SQL store behind it does give is this: the number of a new model version is
the largest number plus one, it is unique by primary key, and a number is computed only from versions that are committed. So
versions of one registered model are tickets of a queue (Lamport's bakery, with the database handing out the numbers): whoever
sees ticket *n* sees every ticket below it. The lowest ticket that was not given back holds the turn. Numbers never come again,
not even after a deletion, so giving back the ticket of a dead process can never hit somebody else's.

A holder that dies leaves its ticket behind. A process of the same machine that is certainly gone is passed over at once. Any
other ticket must show a sign of life (the tag ``beat``) at least every ``LEASE_S`` seconds *while somebody watches it*: those who
wait measure with their own clocks, so clocks of different machines need not agree. Before every write the holder
shows a sign of life with a request that fails once its ticket was taken.

What no such lock can prevent: a holder that is stopped for ``LEASE_S`` seconds exactly between that request and the write that
follows it. The next decision sees that the alias is not what the ledger says, and writes that down.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from softprompt_core.errors import Unavailable
from softprompt_core.registry import processes
from softprompt_core.registry.stores import Stores, locked
from softprompt_core.registry.tags import BEAT, LOCKS, NONCE, OWNER, TASK

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

T = TypeVar("T")

LEASE_S = 120.0  # longer than any single request may take, with MLflow's retries
BEAT_S = 10.0
PATIENCE_S = 300.0
_POLL_S = (0.05, 0.5)
_COLLISIONS_S = 10.0
_WORDS = "Tickets that keep decisions about soft prompts apart. Not a model. Deleting it is safe while nothing is being decided."


_left: set[str] = set()  # turns that this process is done with; a store that was away may still have their tickets


class TurnLost(Unavailable):
    """Somebody took this process for dead and went on; it must not write any more."""


class Turn:
    """The right to write a decision about one task, until it is given back."""

    def __init__(self, client: MlflowClient, task: str) -> None:
        self.task = task
        self._client = client
        self._nonce = secrets.token_hex(8)
        self._ticket: str | None = None
        self._beats = 0
        self._last_beat = time.monotonic()

    def confirm(self, step: str) -> None:
        """Called right before each write, which ``step`` names.

        Raises:
            TurnLost: the turn is somebody else's by now.
        """
        from mlflow.exceptions import MlflowException

        assert self._ticket is not None
        self._beats, self._last_beat = self._beats + 1, time.monotonic()
        try:
            _writer(self._client).set_model_version_tag(LOCKS, self._ticket, BEAT, str(self._beats))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise TurnLost(
                f"this process was silent for so long that another one took its turn; not done: {step}",
                where=self.task,
                do="look at `softprompt registry history`, then try again",
            ) from None

    def take(self) -> None:
        """Wait until nobody is before us.

        Raises:
            Unavailable: somebody who is alive has been busy for five minutes.
        """
        self._draw()
        began = time.monotonic()
        watched: dict[str, tuple[str, float]] = {}
        while True:
            queue = self._queue()
            mine = [t for t in queue if t.tags.get(NONCE) == self._nonce]
            if not mine:
                raise TurnLost("the ticket of this process was deleted while it waited", where=self.task, do="try again")
            self._ticket = mine[0].version
            ahead = queue[: queue.index(mine[0])]
            if not ahead:
                return
            for ticket in ahead:
                sign = ticket.tags.get(BEAT, "")
                seen = watched.get(ticket.version)
                if seen is None or seen[0] != sign:
                    seen = watched[ticket.version] = (sign, time.monotonic())
                silent = time.monotonic() - seen[1] > LEASE_S
                if silent or ticket.tags.get(NONCE) in _left or processes.certainly_gone(ticket.tags.get(OWNER, "")):
                    _give_back(self._client, ticket.version)
            if time.monotonic() - began > PATIENCE_S:
                raise Unavailable(
                    f"{processes.in_words(ahead[0].tags.get(OWNER, ''))}, has been busy with a decision for {PATIENCE_S:.0f} s",
                    where=self.task,
                    do="wait for it, or end it",
                )
            if time.monotonic() - self._last_beat > BEAT_S:
                self.confirm("waiting")
            time.sleep(random.uniform(*_POLL_S))

    def leave(self) -> None:
        """Give the ticket back. A store that does not answer is no reason to fail now: the ticket will be passed over."""
        _left.add(self._nonce)
        with suppress(Exception):
            for ticket in self._queue():
                # A request that was sent twice has drawn two.
                if ticket.tags.get(NONCE) == self._nonce:
                    _give_back(self._client, ticket.version)

    def _draw(self) -> None:
        from mlflow.exceptions import MlflowException

        tags = {TASK: self.task, OWNER: processes.me(), NONCE: self._nonce, BEAT: "0"}

        def create() -> ModelVersion:
            # A version must name a place, though nothing ever reads this one; servers refuse local paths and web addresses.
            return self._client.create_model_version(LOCKS, "s3://softprompt-ticket/none", tags=tags)

        try:
            _patiently(create)
        except MlflowException as error:
            # Not asked for beforehand: MLflow reads every ticket that was ever drawn to describe the queue.
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            _make_queue(self._client)
            _patiently(create)

    def _queue(self) -> list[ModelVersion]:
        return [ticket for ticket in tickets(self._client) if ticket.tags.get(TASK) == self.task]


@contextmanager
def turn(client: MlflowClient, stores: Stores, task: str) -> Iterator[Turn]:
    """Hold the turn for ``task``. A lock in ``home`` comes first: it keeps processes of one machine from crowding the store.

    Raises:
        Unavailable: somebody else has been busy for minutes.
    """
    with locked(stores, f"decision {task}", patience_s=PATIENCE_S + LEASE_S):
        held = Turn(client, task)
        try:
            held.take()
            yield held
        finally:
            held.leave()


def tickets(client: MlflowClient) -> list[ModelVersion]:
    """All tickets that were not given back, in the order in which they were drawn."""
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name = '{LOCKS}'", max_results=1000, page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return sorted(found, key=lambda ticket: int(ticket.version))


def clear_dead_tickets(client: MlflowClient) -> list[str]:
    """Give back the tickets of processes that are certainly gone; returns their tasks."""
    dead = [ticket for ticket in tickets(client) if processes.certainly_gone(ticket.tags.get(OWNER, ""))]
    for ticket in dead:
        _give_back(client, ticket.version)
    return [ticket.tags.get(TASK, "?") for ticket in dead]


def _give_back(client: MlflowClient, version: str) -> None:
    from mlflow.exceptions import MlflowException

    def delete() -> None:
        _writer(client).delete_model_version(LOCKS, version)

    try:
        _patiently(delete)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # another one that waits was faster
            raise


def _writer(client: MlflowClient) -> Any:
    """What writes to tickets at a cost that does not grow with their number.

    ``MlflowClient`` looks before each write whether the model is one of MLflow's prompts, and for that the store reads every
    version that the model ever had: after 100,000 decisions 2.7 s on SQLite, a dozen times a decision. What stands behind the
    client does not look. It is no public name, so without it the client itself is used.
    """
    behind = getattr(client, "_get_registry_client", None)
    return behind() if behind is not None else client


def _make_queue(client: MlflowClient) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(LOCKS, description=_WORDS)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
            raise


def _patiently(call: Callable[[], T]) -> T:
    """MLflow gives up after three collisions on a number, and SQLite when it is busy; with many processes that is no failure."""
    from mlflow.exceptions import MlflowException

    began = time.monotonic()
    while True:
        try:
            return call()
        except MlflowException as error:
            passing = error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "BAD_REQUEST")
            if not passing or time.monotonic() - began > _COLLISIONS_S:
                raise
            time.sleep(random.uniform(0.02, 0.2))
