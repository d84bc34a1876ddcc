"""What goes wrong around MLflow while it is used: which errors may pass, and how a user is told of them."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from softprompt_core.errors import Unavailable
from softprompt_core.settings import masked
from softprompt_core.store.addresses import Addresses

_TRANSIENT_CODES = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")
# By module, so that none has to be imported: MLflow over HTTP, its database, files in S3.
_TRANSPORT_MODULES = ("requests", "urllib3", "sqlalchemy", "psycopg", "boto3", "botocore", "s3transfer")
_DISK_FULL_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN_CODES = (errno.EACCES, errno.EPERM, errno.EROFS)
_DISK_FULL_TEXTS = ("no space left on device", "disk is full", "disk quota exceeded", "os error 28", "file too large")
_RUN_AGAIN = "then run the task again: what was trained is kept"


def is_transient(error: BaseException) -> bool:
    """Whether MLflow, its database or its files did not answer or broke off, so that the same call may succeed later."""
    return not is_disk_full(error) and not _is_forbidden(error) and _is_from_mlflow(error)


def is_disk_full(error: BaseException) -> bool:
    """Whether there was no room to write something, here or at MLflow."""
    return any(
        (isinstance(cause, OSError) and cause.errno in _DISK_FULL_CODES) or _tells_of_full_disk(str(cause))
        for cause in _causes(error)
    )


def _is_forbidden(error: BaseException) -> bool:
    """Whether a file, folder or database may not be written."""
    return any(
        (isinstance(cause, OSError) and cause.errno in _FORBIDDEN_CODES) or "readonly database" in str(cause)
        for cause in _causes(error)
    )


def is_locked(error: BaseException) -> bool:
    """Whether another process kept a SQLite database from being read or written."""
    return any(re.search("database( table)? is locked", str(cause)) for cause in _causes(error))


def unavailable(error: BaseException, addresses: Addresses) -> Unavailable | None:
    """The error as a user should meet it; None if it is neither a full disk nor MLflow's, but perhaps a bug."""
    if is_disk_full(error):
        file = next((str(cause.filename) for cause in _causes(error) if isinstance(cause, OSError) and cause.filename), None)
        disk = "the disk of MLflow or its database" if _is_from_mlflow(error) and file is None else str(addresses.home)
        lines = (line for cause in _causes(error) for line in str(cause).splitlines())
        message = next((line for line in lines if _tells_of_full_disk(line)), first_line(error))
        return Unavailable(f"disk full: {masked(message)[:300]}", where=file, do=f"free space in {disk}, {_RUN_AGAIN}")
    if _is_forbidden(error):
        file = next((str(cause.filename) for cause in _causes(error) if isinstance(cause, OSError) and cause.filename), None)
        where = file or f"MLflow at {addresses.masked_tracking_uri}"
        do = f"make it writable for this user, or choose another place, {_RUN_AGAIN}"
        return Unavailable(f"cannot be written: {first_line(error)}", where=where, do=do)
    if is_locked(error):
        what = "the database is locked: another process has been writing to it all the time"
        do = f"wait for that process, or end it, {_RUN_AGAIN}"
        return Unavailable(what, where=f"MLflow at {addresses.masked_tracking_uri}", do=do)
    if is_transient(error):
        return Unavailable(
            f"stopped answering: {first_line(error)}",
            where=f"MLflow at {addresses.masked_tracking_uri}",
            do=f"start it again (and its database, and where it keeps files), {_RUN_AGAIN}; `softprompt doctor` says what waits",
        )
    return None


def is_missing(error: BaseException) -> bool:
    """Whether MLflow says that there is no such model, version or run, or not any more."""
    code, message = getattr(error, "error_code", None), str(error)
    # A model's name with `/` or `:` is refused as invalid; no task can have it. A deleted run is "not active".
    invalid = ("Invalid model name", "must be in the 'active' state")
    return code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and any(text in message for text in invalid))


def first_line(error: BaseException) -> str:
    """The message of an error, short enough to be quoted and without passwords."""
    line = (masked(str(error)).strip().splitlines() or [type(error).__name__])[0]
    if "Connection refused" in line or "NewConnectionError" in line:
        return "connection refused"
    if "too many 5" in line:  # of MLflow's client after its own tries: too many 500 error responses
        return "the server answers with errors"
    return line if len(line) <= 300 else f"{line[:299]}…"


def _is_from_mlflow(error: BaseException) -> bool:
    for cause in _causes(error):
        code = getattr(cause, "error_code", None)
        if isinstance(code, str):  # MLflow's own error is the most precise
            return code in _TRANSIENT_CODES
        if any(kind.__module__.partition(".")[0] in _TRANSPORT_MODULES for kind in type(cause).__mro__):
            return True
    return False


def _tells_of_full_disk(text: str) -> bool:
    return any(words in text.lower() for words in _DISK_FULL_TEXTS)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what it was raised from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
