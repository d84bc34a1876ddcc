"""A Prefect server that may be away for a while: it is asked again until a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import httpx
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL

from softprompt_core.errors import InvalidInput, SoftpromptError, Unavailable

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

T = TypeVar("T")
Say = Callable[[str], None]

SILENCE_S = 600.0  # without a deadline, a server that does not answer for so long is given up
PAUSE_S = (0.5, 10.0)  # between two requests: at first, and at most


@dataclass(frozen=True)
class Server:
    """A client of the Prefect server, and how long to wait while it does not answer.

    Attributes:
        deadline: of ``time.monotonic``; None for no limit.
        say: tells the user something.
    """

    client: SyncPrefectClient
    deadline: float | None
    say: Say

    def ask(self, request: Callable[[SyncPrefectClient], T]) -> T:
        """The answer to a request, which is repeated while the server cannot be reached.

        Raises:
            Unavailable: no answer until the deadline, or for ``SILENCE_S`` without one; or the server refuses this user.
            InvalidInput: the server refuses the request.
        """
        began = time.monotonic()
        limit = began + SILENCE_S if self.deadline is None else self.deadline
        pause, told = PAUSE_S[0], False
        while True:
            try:
                answer = request(self.client)
            except ObjectNotFound:
                raise
            except (httpx.TransportError, PrefectHTTPStatusError) as error:
                if isinstance(error, PrefectHTTPStatusError) and not _temporary(error):
                    raise _refusal(error) from None
                if time.monotonic() + pause >= limit:
                    seconds = time.monotonic() - began
                    raise Unavailable(
                        f"the Prefect server has not answered for {seconds:.0f} s ({type(error).__name__})",
                        where=address(),
                        do="runs that were started may go on; look again when the server is back",
                    ) from None
                if not told:
                    self.say(f"the Prefect server does not answer ({type(error).__name__}); trying again")
                    told = True
                time.sleep(pause)
                pause = min(pause * 1.5, PAUSE_S[1])
            else:
                if told:
                    self.say("the Prefect server answers again")
                return answer


def address() -> str:
    """The server's address, for messages."""
    return f"PREFECT_API_URL {PREFECT_API_URL.value()}"


def _temporary(error: PrefectHTTPStatusError) -> bool:
    """Whether the same request may succeed later. After a refused CSRF token the client has fetched another."""
    status = error.response.status_code
    return status in (408, 429, 500, 502, 503, 504) or (status == 403 and "CSRF" in error.response.text)


def _refusal(error: PrefectHTTPStatusError) -> SoftpromptError:
    status = error.response.status_code
    if status in (401, 403):
        what = f"the Prefect server refuses this user (HTTP {status})"
        return Unavailable(what, where=address(), do="set PREFECT_API_AUTH_STRING")
    text = " ".join(error.response.text.split())[:400]
    what = f"the Prefect server refuses the request (HTTP {status}): {text}"
    return InvalidInput(what, where=address(), do="deploy again with this release")
