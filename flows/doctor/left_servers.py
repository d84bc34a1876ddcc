"""Prefect servers that commands of earlier releases started for themselves and left when they were killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

import psutil

from flows.doctor.findings import Finding, ok, warning
from softprompt_core.settings import home

_APPLICATION = "prefect.server.api.server:create_app"
_ENDING_S = 5.0


def left_servers() -> Iterator[Finding]:
    """The servers of this home whose command is gone."""
    left = _left()
    for process in left:
        since = datetime.fromtimestamp(process.create_time(), UTC)
        message = f"process {process.pid} is a Prefect server without its command, {process.memory_info().rss / 1e6:.0f} MB"
        yield warning("servers", f"{message}, since {since:%Y-%m-%d %H:%M:%S} UTC", "`softprompt doctor --repair` ends it")
    if not left:
        yield ok("servers", "no command has left its Prefect server behind")


def end_left_servers() -> list[int]:
    """End them; returns their process ids."""
    left = _left()
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(left, timeout=_ENDING_S)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return [process.pid for process in left]


def _left() -> list[psutil.Process]:
    folder = os.environ.get("PREFECT_HOME") or str(home() / "prefect")
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if _APPLICATION in process.cmdline() and _is_of(process, folder) and not _has_owner(process):
                found.append(process)
    return found


def _is_of(process: psutil.Process, folder: str) -> bool:
    environment = process.environ()
    return "PREFECT__SERVER_EPHEMERAL" in environment and environment.get("PREFECT_HOME") == folder


def _has_owner(process: psutil.Process) -> bool:
    """Whether the process that started it, a Python program, is there still: orphans belong to one that the system chooses."""
    parent = process.parent()
    if parent is None:
        return False
    arguments = parent.cmdline()
    is_python = "python" in os.path.basename(arguments[0] if arguments else "")
    # Process 1 of a container may be Python, and owns the servers of commands only if it is one itself.
    return is_python and (parent.pid != 1 or any("softprompt" in each or "flows" in each for each in arguments))
