"""Whether Prefect's server answers. A lifecycle goes on without: what it decides is in MLflow. Imports no Prefect."""

from __future__ import annotations

import os
import sys
import time

import httpx

from softprompt_core import settings

_ANSWER_S = 8.0

_stopped_answering = False


def server_answers() -> bool:
    """Whether the server that is set does; one that a command starts for itself lives as long as the command."""
    address = settings.current().prefect_api_url
    try:
        return not address or httpx.get(f"{address.rstrip('/')}/health", timeout=_ANSWER_S).is_success
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def await_server() -> None:
    """Before a flow ends: give a server that has stopped answering ``server_wait_s`` seconds to come back."""
    began = time.monotonic()
    while not server_answers() and time.monotonic() - began <= settings.current().server_wait_s:
        time.sleep(1.0)


def is_unanswered(error: BaseException) -> bool:
    """Whether an error says that the server did not answer, or could not."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500  # its database does not answer, or its disk is full
    return isinstance(error, httpx.TransportError) or "Failed to reach API" in str(error)


def note_unanswered(error: BaseException) -> None:
    """Say that Prefect does not know how a flow ended."""
    global _stopped_answering
    _stopped_answering = True
    print(f"Prefect was not told how this ended: {type(error).__name__}: {error}", file=sys.stderr)


def exit_if_unanswered(code: int) -> None:
    """End the process here if the server stopped answering.

    An ordinary exit waits for Prefect's client, which would try for minutes to deliver each event of the run.
    """
    if _stopped_answering:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
