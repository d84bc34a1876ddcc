"""Send metric buffers to MLflow: while runs train, when they end, and those of processes that have ended."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

from softprompt_core.errors import Unavailable
from softprompt_core.store.connection import Store
from softprompt_core.store.failures import in_brief, is_disk_full, is_missing, is_transient
from softprompt_core.store.metric_buffer import Ending, MetricBuffer, buffers
from softprompt_core.store.retrying import retrying
from softprompt_core.store.run_contents import log_rows
from softprompt_core.store.runs import end_unless_ended, open_runs

_LONGEST_INTERVAL_S = 60.0


class BufferFlusher:
    """Sends buffers every few seconds from a thread of its own, for as long as a ``with`` block lasts.

    None of its errors reaches the block: while MLflow is away it tries less and less often, and what it could not send stays in
    the files.
    """

    def __init__(self, store: Store, buffers: Sequence[MetricBuffer], interval_s: float = 2.0) -> None:
        self._store, self._buffers, self._interval_s = store, buffers, interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="metrics")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(1.0)  # a request to a dead server takes its time, and does no harm later

    def _work(self) -> None:
        pause = self._interval_s
        while not self._stop.wait(pause):
            try:
                for buffer in self._buffers:
                    flush(self._store, buffer)
                pause = self._interval_s
            except Exception:  # noted beside the buffer
                pause = min(2 * pause, _LONGEST_INTERVAL_S)


def flush(store: Store, buffer: MetricBuffer) -> int:
    """Send what is pending, in few requests; returns the number of rows. What MLflow does not take stays, with the reason noted.

    Raises:
        MlflowException: MLflow does not take it. Rows of a run that is not there any more are dropped.
    """
    pending = buffer.pending()
    if not pending:
        return 0
    try:
        log_rows(store, buffer.run_id, pending.rows)
        if pending.ending is not None:
            end_unless_ended(store, buffer.run_id, pending.ending)
    except Exception as error:
        if is_missing(error):
            buffer.remove()
            return 0
        buffer.mark_failed(in_brief(error))
        raise
    if pending.ending is not None:
        buffer.remove()
    else:
        buffer.mark_flushed(pending.end_byte)
    return len(pending.rows)


def flush_within(store: Store, buffer: MetricBuffer, seconds: float) -> None:
    """Send what is pending; try again while MLflow does not answer.

    Raises:
        Unavailable: it has not answered for ``seconds``.
    """
    try:
        retrying(seconds)(flush, store, buffer)
    except Exception as error:
        if not is_transient(error):
            raise
        rows = len(buffer.pending().rows)
        raise Unavailable(
            f"has not answered for {seconds:g} s; the training is kept, and {rows} rows of metrics wait in {buffer.path}",
            where=f"MLflow at {store.addresses.masked_tracking_uri}",
            do="run the task again when it is back: the metrics are delivered, and nothing is trained twice",
        ) from None


def close(store: Store, run_id: str, task: str, ending: Ending) -> bool:
    """End a run after all its metrics; returns whether MLflow has it all. If it does not answer, both are kept together."""
    buffer = MetricBuffer(store.addresses, run_id, task)
    try:
        flush(store, buffer)
        end_unless_ended(store, run_id, ending)
    except Exception as error:
        if not is_transient(error) and not is_disk_full(error):
            raise
        with suppress(OSError):  # then the run is ended as KILLED once this process is gone
            buffer.end(ending)
        buffer.mark_failed(in_brief(error))
        return False
    buffer.remove()
    return True


def close_open_runs(ending: Ending) -> None:
    """End all runs that this process has open, with their metrics; one that cannot be ended does not stop the others."""
    for run_id, (store, task) in open_runs().items():
        with suppress(Exception):
            close(store, run_id, task, ending)


def flush_all(store: Store) -> dict[str, int]:
    """Send whatever is pending on this machine; returns run id → number of rows. Abandoned files are removed.

    A run at work may be among them: a row that it sends as well is there once.

    Raises:
        MlflowException: MLflow does not take it.
    """
    sent = {}
    for buffer in buffers(store.addresses):
        was_pending, abandoned = bool(buffer.pending()), buffer.is_abandoned()
        rows = flush(store, buffer)
        if was_pending:
            sent[buffer.run_id] = rows
        if abandoned:
            buffer.remove()
    return sent
