"""SIGINT, SIGTERM and SIGHUP: what is under way is left, MLflow is told, and the process ends within ten seconds.

A signal becomes the exception ``Stopped`` in the main thread, so that all ``with`` and ``finally`` do their work. A second thread
hears of every signal too, and ends the process where the exception does not: in a long call of a library, or in code that keeps
it to itself.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

from flows.servers import own_server

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
UNWINDING_S = 4.0
"""How long the main thread has."""
CLOSING_S = 2.5
"""How long the second thread has after that."""


class Stopped(BaseException):
    """A signal asked this process to end.

    Attributes:
        signal: which.
        consequence: what becomes of the work, for the user.
    """

    def __init__(self, which: int, consequence: str = "") -> None:
        super().__init__(signal.Signals(which).name)
        self.signal = signal.Signals(which)
        self.consequence = consequence

    @property
    def exit_code(self) -> int:
        """What shells make of a process that a signal ended."""
        return 128 + self.signal


class _State:
    """What this process was told, and has done."""

    received: signal.Signals | None = None
    raised = False
    told = False
    consequence = ""
    finished: list[Any] = []  # noqa: RUF012 (one process, one state)
    wakeup: int | None = None


def handle_signals() -> None:
    """From now on the three signals raise ``Stopped`` in the main thread; those that are ignored, as under ``nohup``, stay so."""
    if threading.current_thread() is not threading.main_thread():
        return
    _State.received, _State.raised, _State.told, _State.consequence, _State.finished = None, False, False, "", []
    wanted = [which for which in SIGNALS if signal.getsignal(which) is not signal.SIG_IGN]
    if _State.wakeup is not None:
        os.close(_State.wakeup)
    heard, _State.wakeup = os.pipe()
    os.set_blocking(_State.wakeup, False)
    # Written to by the C handler of every signal, whatever the main thread is doing and whoever handles the signal in Python.
    signal.set_wakeup_fd(_State.wakeup, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(heard, wanted), daemon=True, name="signals").start()
    for which in wanted:
        signal.signal(which, _raise)


def end_at_once_from_now_on() -> None:
    """What there was to do is done and told: a signal now ends the process without words."""
    if threading.current_thread() is threading.main_thread():
        for which in SIGNALS:
            if signal.getsignal(which) is _raise:
                signal.signal(which, lambda number, _: os._exit(128 + number))


def promise(consequence: str) -> None:
    """What becomes of the work that begins now if a signal stops it, for the user."""
    _State.consequence = consequence


def note_finished(result: Any) -> None:
    """Keep the result of a lifecycle that has ended, in case a signal stops the next."""
    _State.finished.append(result)


def finished() -> list[Any]:
    """The results that were kept."""
    return list(_State.finished)


def raise_if_stopped() -> None:
    """Before something new begins: libraries may have kept the exception to themselves."""
    if _State.received is not None:
        raise Stopped(_State.received)


def end(stopped: Stopped) -> NoReturn:
    """End the process, once the main thread has left its work."""
    close_runs(stopped.signal)
    _exit(stopped)


def tell(stopped: Stopped) -> None:
    """Say what happened, once."""
    if _State.told:
        return
    _State.told = True
    consequence = stopped.consequence or _State.consequence
    with suppress(OSError, ValueError):  # the terminal may be what has ended
        print(f"interrupted by {stopped.signal.name}{f': {consequence}' if consequence else ''}", file=sys.stderr, flush=True)


def close_runs(which: signal.Signals) -> None:
    """Tell MLflow how the runs ended that this process has open still."""
    if "softprompt_core.store.flushing" in sys.modules:  # else it has opened none
        from softprompt_core.store import flushing, runs

        flushing.close_open_runs(runs.ending_of(Stopped(which)))


def _raise(number: int, _: FrameType | None) -> None:
    # Once: `timeout` and CI systems send the same signal several times, and the second would break off what the first began.
    if not _State.raised:
        _State.raised, _State.received = True, _State.received or signal.Signals(number)
        raise Stopped(_State.received)


def _watch(heard: int, wanted: Sequence[int]) -> None:
    while (number := os.read(heard, 1)) and number[0] not in wanted:
        pass
    if number:  # the pipe stays open: the next signal is written to it as well
        _State.received = _State.received or signal.Signals(number[0])
        time.sleep(UNWINDING_S)
        closing = threading.Thread(target=close_runs, args=(_State.received,), daemon=True)
        closing.start()
        closing.join(CLOSING_S)
        _exit(Stopped(_State.received))
    os.close(heard)


def _exit(stopped: Stopped) -> NoReturn:
    tell(stopped)
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    own_server.kill()
    os._exit(stopped.exit_code)  # an ordinary exit waits for what Prefect's client has still to send
