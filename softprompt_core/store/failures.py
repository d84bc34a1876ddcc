"""What goes wrong around MLflow while it is used: which errors may pass, and how a user is told of them."""

from __future__ import annotations

import errno
import os
import re

from softprompt_core.errors import Unavailable, quotable
from softprompt_core.masking import causes, masked
from softprompt_core.store.addresses import Addresses

_TRANSIENT_CODES = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")
# What MLflow's own errors have where nobody gave them a code: only an answer of its server means it.
_NO_CODE = "INTERNAL_ERROR"
_REFUSALS = ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED")
# Errors of single files are kept as text.
_SEVERAL_FILES = "The following failures occurred"
_OUTAGE_TEXT = re.compile(
    r"connection ?(error|refused|reset|aborted|broken)|time(d )?out|max retries|could not connect|too many 5|\b50[0234]\b",
    re.IGNORECASE,
)
# By module, so that none has to be imported: MLflow over HTTP, its database, files in S3.
_TRANSPORT_MODULES = ("requests", "urllib3", "sqlalchemy", "sqlite3", "psycopg", "boto3", "botocore", "s3transfer")
_DISK_FULL_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN_CODES = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
_DISK_FULL_TEXTS = ("no space left on device", "disk is full", "disk quota exceeded", "os error 28", "file too large")
_RUN_AGAIN = "then run the task again: what was trained is kept"


def is_transient(error: BaseException) -> bool:
    """Whether MLflow, its database or its files did not answer or broke off, so that the same call may succeed later."""
    return not is_disk_full(error) and not _is_forbidden(error) and _is_from_mlflow(error)


def is_answer(error: BaseException | None) -> bool:
    """Whether MLflow's server answered, with an error."""
    return any(kind.__name__ == "RestException" for kind in type(error).__mro__)  # by name: MLflow need not be imported


def is_disk_full(error: BaseException) -> bool:
    """Whether there was no room to write something, here or at MLflow."""
    return any(
        (isinstance(cause, OSError) and cause.errno in _DISK_FULL_CODES) or _tells_of_full_disk(str(cause))
        for cause in causes(error)
    )


def _is_forbidden(error: BaseException) -> bool:
    """Whether a file, folder or database may not be written."""
    return any(
        (isinstance(cause, OSError) and cause.errno in _FORBIDDEN_CODES) or "readonly database" in str(cause)
        for cause in causes(error)
    )


def is_locked(error: BaseException) -> bool:
    """Whether another process kept a SQLite database from being read or written."""
    return any(re.search("database( table)? is locked", str(cause)) for cause in causes(error))


def unavailable(error: BaseException, addresses: Addresses) -> Unavailable | None:
    """The error as a user should meet it; None if it is neither a full disk nor MLflow's, but perhaps a bug."""
    if is_disk_full(error):
        file = next((str(cause.filename) for cause in causes(error) if isinstance(cause, OSError) and cause.filename), None)
        disk = "the disk of MLflow or its database" if _is_from_mlflow(error) and file is None else str(addresses.home)
        lines = (line for cause in causes(error) for line in str(cause).splitlines())
        message = next((line for line in lines if _tells_of_full_disk(line)), in_brief(error))
        return Unavailable(f"disk full: {masked(message)[:300]}", where=file, do=f"free space in {disk}, {_RUN_AGAIN}")
    if _is_forbidden(error):
        refusal = next((cause for cause in causes(error) if isinstance(cause, OSError) and cause.errno), None)
        file = str(refusal.filename) if refusal is not None and refusal.filename else None
        where = file or f"MLflow at {addresses.masked_tracking_uri}"
        why = os.strerror(refusal.errno) if refusal is not None and refusal.errno else in_brief(error)
        do = f"make it writable for this user, or choose another place, {_RUN_AGAIN}"
        return Unavailable(f"cannot be written: {why}", where=where, do=do)
    if is_locked(error):
        what = "the database is locked: another process has been writing to it all the time"
        do = f"wait for that process, or end it, {_RUN_AGAIN}"
        return Unavailable(what, where=f"MLflow at {addresses.masked_tracking_uri}", do=do)
    if is_transient(error):
        return Unavailable(
            f"stopped answering: {in_brief(error)}",
            where=f"MLflow at {addresses.masked_tracking_uri}",
            do=f"start it again (and its database, and where it keeps files), {_RUN_AGAIN}; `softprompt doctor` says what waits",
        )
    return _refused(error, addresses)


def _refused(error: BaseException, addresses: Addresses) -> Unavailable | None:
    """What waiting does not help against, and a person can: a user who may not do it, files that are lost."""
    for cause in causes(error):
        if getattr(cause, "error_code", None) in _REFUSALS or _status(cause) in (401, 403):
            do = "give it a user who may: MLFLOW_TRACKING_USERNAME and …_PASSWORD, or the keys of its storage"
            where = f"MLflow at {addresses.masked_tracking_uri}"
            return Unavailable(f"refuses this user: {in_brief(cause)}", where=where, do=do)
        if str(cause).startswith(_SEVERAL_FILES):
            do = "look after MLflow's artifact store; `softprompt doctor` says which versions have lost files"
            return Unavailable(f"files cannot be read: {in_brief(cause)}", where="MLflow's artifact store", do=do)
    return None


def is_missing(error: BaseException) -> bool:
    """Whether MLflow says that there is no such model, version or run, or not any more."""
    code, message = getattr(error, "error_code", None), str(error)
    # A model's name with `/` or `:` is refused as invalid; no task can have it. A deleted run is "not active".
    invalid = ("Invalid model name", "must be in the 'active' state")
    return code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and any(text in message for text in invalid))


def in_brief(error: BaseException) -> str:
    """The message of an error around MLflow in one short line, without passwords."""
    lines = masked(str(error)).strip().splitlines() or [type(error).__name__]
    line = lines[-1] if lines[0].startswith(_SEVERAL_FILES) else lines[0]
    if "Connection refused" in line or "NewConnectionError" in line:
        return "connection refused"
    if "too many 5" in line:  # of MLflow's client after its own tries: too many 500 error responses
        return "the server answers with errors"
    return quotable(line)


def _is_from_mlflow(error: BaseException) -> bool:
    for cause in causes(error):
        code = getattr(cause, "error_code", None)
        kinds = type(cause).__mro__
        if isinstance(code, str):  # MLflow's own error is the most precise
            if code != _NO_CODE or is_answer(cause):
                return code in _TRANSIENT_CODES
            if str(cause).startswith(_SEVERAL_FILES):
                return bool(_OUTAGE_TEXT.search(str(cause)))
        elif any(kind.__module__.partition(".")[0] in _TRANSPORT_MODULES for kind in kinds):
            status = _status(cause)
            return status is None or status >= 500 or status in (408, 425, 429)
    return False


def _status(error: BaseException) -> int | None:
    """The HTTP status of an answer that an error of requests or of S3 holds."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status if isinstance(status, int) else None


def _tells_of_full_disk(text: str) -> bool:
    return any(words in text.lower() for words in _DISK_FULL_TEXTS)
