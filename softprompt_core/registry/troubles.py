"""What goes wrong around MLflow while it is used, in words that say what to do; and calls that are patient with it."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from softprompt_core.errors import Unavailable
from softprompt_core.registry.stores import Stores
from softprompt_core.settings import masked

T = TypeVar("T")

_ANSWERS_WITH_ERRORS = 4  # tries, where MLflow answers: a mistake of ours looks like one of the server's
_PAUSE_S = (0.5, 10.0)
_PASSING = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")
# By module, so that none has to be imported: MLflow over HTTP, its database, files in S3.
_CARRIERS = ("requests", "urllib3", "sqlalchemy", "psycopg", "boto3", "botocore", "s3transfer")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_WORDS = ("no space left on device", "disk is full", "disk quota exceeded", "os error 28", "file too large")
_AGAIN = "then run the task again: what was trained is kept"


def passing(error: BaseException) -> bool:
    """Whether MLflow, its database or its files did not answer or broke off, so that the same call may succeed later."""
    return not disk_full(error) and _is_of_the_record(error)


def disk_full(error: BaseException) -> bool:
    """Whether there was no room to write something, here or at MLflow."""
    for each in _chain(error):
        if isinstance(each, OSError) and each.errno in _FULL:
            return True
        if any(words in str(each).lower() for words in _FULL_WORDS):
            return True
    return False


def unavailable(error: BaseException, stores: Stores) -> Unavailable | None:
    """The error as a user should meet it; None if it is neither a full disk nor MLflow's, but perhaps a bug."""
    if disk_full(error):
        place = next((str(each.filename) for each in _chain(error) if isinstance(each, OSError) and each.filename), None)
        there = "the disk of MLflow or its database" if _is_of_the_record(error) and place is None else str(stores.home)
        lines = [line for each in _chain(error) for line in str(each).splitlines()]
        said = next((line for line in lines if any(words in line.lower() for words in _FULL_WORDS)), first_line(error))
        return Unavailable(f"disk full: {masked(said)[:300]}", where=place, do=f"free space in {there}, {_AGAIN}")
    if passing(error):
        return Unavailable(
            f"stopped answering: {first_line(error)}",
            where=f"MLflow at {masked(stores.tracking_uri)}",
            do=f"start it again (and its database, and where it keeps files), {_AGAIN}; `softprompt doctor` says what waits",
        )
    return None


def patiently(call: Callable[[], T], stores: Stores, seconds: float) -> T:
    """The result of a call that may be repeated; repeated while MLflow does not answer.

    Raises:
        Unavailable: it has not answered for ``seconds``, or answers the same call with errors again and again.
    """
    from mlflow.exceptions import RestException

    began, pause, answered = time.monotonic(), _PAUSE_S[0], 0
    while True:
        try:
            return call()
        except Exception as error:
            if not passing(error):
                raise
            answered += isinstance(error, RestException)
            if time.monotonic() - began + pause > seconds or answered >= _ANSWERS_WITH_ERRORS:
                found = unavailable(error, stores)
                assert found is not None
                raise found from error
        time.sleep(pause)
        pause = min(2 * pause, _PAUSE_S[1])


def is_missing(error: BaseException) -> bool:
    """Whether MLflow says that there is no such run any more: deleted, or purged."""
    code, said = getattr(error, "error_code", None), str(error)
    return code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "must be in the 'active' state" in said)


def first_line(error: BaseException) -> str:
    """What an error says, short enough for a message and without passwords."""
    said = (masked(str(error)).strip().splitlines() or [type(error).__name__])[0]
    if "Connection refused" in said or "NewConnectionError" in said:
        return "connection refused"
    if "too many 5" in said:  # what the client says after its own tries: too many 500 error responses
        return "the server answers with errors"
    return said if len(said) <= 300 else f"{said[:299]}…"


def _is_of_the_record(error: BaseException) -> bool:
    for each in _chain(error):
        code = getattr(each, "error_code", None)
        if isinstance(code, str):  # MLflow's own says it best
            return code in _PASSING
        if any(kind.__module__.partition(".")[0] in _CARRIERS for kind in type(each).__mro__):
            return True
    return False


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
