"""Deliver what runs have to tell MLflow: while they train, when they end, and what processes left that are gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from softprompt_core.errors import Unavailable
from softprompt_core.registry.runs import end_unless_ended, log_rows
from softprompt_core.registry.spool import Ending, Spool, spools
from softprompt_core.registry.stores import Stores
from softprompt_core.registry.troubles import disk_full, first_line, is_missing, passing
from softprompt_core.settings import masked

if TYPE_CHECKING:
    from mlflow import MlflowClient

_EVERY_S = 2.0
_RARELY_S = 60.0  # how seldom a dead MLflow is asked
_PAUSE_S = (0.5, 10.0)


class Deliverer:
    """Delivers spools every few seconds from a thread of its own, for as long as a ``with`` block lasts.

    Nothing that happens to it reaches the block: when MLflow is away it asks more and more seldom, and what it could not deliver
    stays in the files.
    """

    def __init__(self, client: MlflowClient, spools: Sequence[Spool]) -> None:
        self._client, self._spools = client, spools
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="metrics")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(1.0)  # a request to a dead server takes its time, and does no harm later

    def _work(self) -> None:
        pause = _EVERY_S
        while not self._stop.wait(pause):
            try:
                for spool in self._spools:
                    deliver(self._client, spool)
                pause = _EVERY_S
            except Exception:  # noted in the spool
                pause = min(2 * pause, _RARELY_S)


def deliver(client: MlflowClient, spool: Spool) -> int:
    """Give MLflow what waits, in few requests; returns the number of rows. What it does not take stays, with the reason noted.

    Raises:
        MlflowException: MLflow does not take it. A run that is not there any more is no such case: its rows are dropped.
    """
    found = spool.waiting()
    if not found:
        return 0
    try:
        log_rows(client, spool.run_id, found.rows)
        if found.ending is not None:
            end_unless_ended(client, spool.run_id, found.ending)
    except Exception as error:
        if is_missing(error):
            spool.remove()
            return 0
        spool.failed(first_line(error))
        raise
    if found.ending is not None:
        spool.remove()
    else:
        spool.delivered(found.upto)
    return len(found.rows)


def deliver_within(client: MlflowClient, stores: Stores, spool: Spool, seconds: float) -> None:
    """Deliver what waits; try again while MLflow does not answer.

    Raises:
        Unavailable: it has not answered for ``seconds``.
    """
    began, pause = time.monotonic(), _PAUSE_S[0]
    while True:
        try:
            deliver(client, spool)
            return
        except Exception as error:
            if not passing(error):
                raise
            if time.monotonic() - began + pause > seconds:
                rows = len(spool.waiting().rows)
                raise Unavailable(
                    f"has not answered for {seconds:g} s; the training is kept, and {rows} rows of metrics wait in {spool.path}",
                    where=f"MLflow at {masked(stores.tracking_uri)}",
                    do="run the task again when it is back: the metrics are delivered, and nothing is trained twice",
                ) from None
        time.sleep(pause)
        pause = min(2 * pause, _PAUSE_S[1])


def close(client: MlflowClient, stores: Stores, run_id: str, task: str, how: Ending) -> bool:
    """End a run after all its metrics; returns whether MLflow knows. If it does not answer, both are kept together."""
    spool = Spool(stores, run_id, task)
    try:
        deliver(client, spool)
        end_unless_ended(client, run_id, how)
    except Exception as error:
        if not passing(error) and not disk_full(error):
            raise
        with suppress(OSError):  # then the run is ended as KILLED once this process is gone
            spool.end(how)
        spool.failed(first_line(error))
        return False
    spool.remove()
    return True


def deliver_all(client: MlflowClient, stores: Stores) -> dict[str, int]:
    """Deliver whatever waits on this machine; returns run id → number of rows. Files that nobody writes to any more are removed.

    A run at work may be among them: what it delivers as well is there once.

    Raises:
        MlflowException: MLflow does not take it.
    """
    done = {}
    for spool in spools(stores):
        waits, left = bool(spool.waiting()), spool.left()
        rows = deliver(client, spool)
        if waits:
            done[spool.run_id] = rows
        if left:
            spool.remove()
    return done
