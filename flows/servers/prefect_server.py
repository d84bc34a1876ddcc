"""Whether Prefect's server answers. A lifecycle goes on without: what it decides is in MLflow."""

from __future__ import annotations

import os
import sys
import time

import httpx

from flows.servers import own_server
from softprompt_core import settings

_ANSWER_S = 8.0

_stopped_answering = False


def server_answers() -> bool:
    """Whether the server that is set does, or the one that this command has started for itself."""
    address = settings.current().prefect_api_url
    if own_server.is_lost():
        return False
    try:
        return not address or httpx.get(f"{address.rstrip('/')}/health", timeout=_ANSWER_S).is_success
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def await_server() -> None:
    """Before a flow ends: give a server that has stopped answering ``server_wait_s`` seconds to come back.

    An own server that has ended does not come back: Prefect's client then need not try for a minute.
    """
    if own_server.is_lost():
        _try_once()
        return
    began = time.monotonic()
    while not server_answers() and time.monotonic() - began <= settings.current().server_wait_s:
        time.sleep(1.0)


def _try_once() -> None:
    from prefect.settings.context import get_current_settings

    get_current_settings().client.max_retries = 0


def is_unanswered(error: BaseException) -> bool:
    """Whether an error says that the server did not answer, or could not."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500  # its database does not answer, or its disk is full
    return isinstance(error, httpx.TransportError) or "Failed to reach API" in str(error)


def note_unanswered(error: BaseException) -> None:
    """Say that Prefect does not know how a flow ended."""
    global _stopped_answering
    _stopped_answering = True
    why = "its own server has ended" if own_server.is_lost() else f"{type(error).__name__}: {error}"
    print(f"Prefect was not told how this ended: {why}", file=sys.stderr)


def exit_if_unanswered(code: int) -> None:
    """End the process here if the server stopped answering.

    An ordinary exit waits for Prefect's client, which would try for minutes to deliver each event of the run.
    """
    if _stopped_answering:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
