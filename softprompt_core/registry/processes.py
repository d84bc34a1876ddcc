"""Who is at work: a process named so that another one can tell for certain whether it is gone."""

from __future__ import annotations

import functools
import json
import os
import socket
from pathlib import Path

_PROC = Path("/proc")


def me() -> str:
    """This process as one line of JSON: host for the reader; machine, pid and start time for ``certainly_gone``."""
    return json.dumps(
        {"host": socket.gethostname(), "machine": _machine(), "pid": os.getpid(), "started": _started(os.getpid())},
        separators=(",", ":"),
    )


def certainly_gone(process: str) -> bool:
    """Whether the process that ``me`` described has ended. False wherever that cannot be known, on another machine for one."""
    try:
        told = json.loads(process)
        machine, pid, started = told["machine"], int(told["pid"]), told["started"]
    except (ValueError, KeyError, TypeError):
        return False
    if machine is None or started is None or machine != _machine():
        return False
    return _started(pid) != started  # a number that was given to another process counts as gone


def in_words(process: str) -> str:
    """``host, process 4711`` for messages."""
    try:
        told = json.loads(process)
        return f"{told['host']}, process {told['pid']}"
    except (ValueError, KeyError, TypeError):
        return "an unknown process"


@functools.cache
def _machine() -> str | None:
    """One boot of one machine and one space of process numbers, since containers may share host names; None where unknown."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink(_PROC / 'self/ns/pid')}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When a process began, in ticks since the machine's start; None when there is none or it is only waiting to be buried."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]
