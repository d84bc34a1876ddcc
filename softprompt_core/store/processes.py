"""The process that works on something, recorded so that another process can tell for certain whether it has ended."""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

# The moment of the machine's start, which start times are counted from, is given in whole seconds and may be off by one.
_TOLERANCE_S = 2
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class ProcessIdentity(BaseModel):
    """A process as it is recorded in tags and files.

    Attributes:
        host: name of the machine, for people.
        machine: one boot of one machine and one space of process numbers, since containers may share host names; None if unknown.
        started: when the process began, in clock ticks since the machine's start; None if unknown. Unlike a time of day it does
            not move when the clock is set.
    """

    model_config = ConfigDict(frozen=True)

    host: str
    machine: str | None
    pid: int
    started: str | None


def this_process() -> str:
    """This process as one line of JSON, for ``certainly_gone``."""
    pid = os.getpid()
    started = str(_started_ticks(pid))
    return ProcessIdentity(host=socket.gethostname(), machine=_machine(), pid=pid, started=started).model_dump_json()


def certainly_gone(recorded: str) -> bool:
    """Whether the process of ``this_process`` has ended. False wherever that cannot be known, on another machine for one."""
    try:
        process = ProcessIdentity.model_validate_json(recorded)
        started = int(process.started or "")
    except ValueError:
        return False
    if process.machine is None or process.machine != _machine():
        return False
    try:
        ticks = _started_ticks(process.pid)
    except psutil.Error:  # it is there, and may not be looked at
        return False
    # A number that was given to another process since counts as gone.
    return ticks is None or abs(ticks - started) > _TOLERANCE_S * _TICKS_PER_S


def describe(recorded: str) -> str:
    """``host, process 4711`` for messages."""
    try:
        process = ProcessIdentity.model_validate_json(recorded)
    except ValidationError:
        return "an unknown process"
    return f"{process.host}, process {process.pid}"


@functools.cache
def _machine() -> str | None:
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot_id}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _started_ticks(pid: int) -> int | None:
    """When a process began, in clock ticks since the machine's start; None when there is none or it is a zombie."""
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        return round((process.create_time() - psutil.boot_time()) * _TICKS_PER_S)
    except psutil.NoSuchProcess:
        return None
