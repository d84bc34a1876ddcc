"""A lock file in ``home``: keeps processes of one machine apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

from softprompt_core.errors import Unavailable
from softprompt_core.store.addresses import Addresses

TIMEOUT_S = 120.0


@contextmanager
def locked(addresses: Addresses, what: str, timeout_s: float = TIMEOUT_S) -> Iterator[None]:
    """Keep other threads and processes that share ``home`` out of ``what``. The lock of a process that dies is free again.

    Raises:
        Unavailable: the lock folder cannot be written, or another process has held the lock for ``timeout_s`` seconds.
    """
    from filelock import FileLock, Timeout

    digest = sha256(f"{addresses.models_uri}\n{what}".encode()).hexdigest()
    path = addresses.home / "locks" / f"{digest[:32]}.lock"
    lock = FileLock(path, timeout=timeout_s)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise Unavailable(
            f"another process has been busy with {what} for {timeout_s:.0f} s", where=str(path), do="wait for it, or end it"
        ) from None
    except OSError as error:
        raise Unavailable(
            f"cannot lock {what}: {error}", where=str(path), do="make the folder writable, or choose another home"
        ) from None
    try:
        yield
    finally:
        lock.release()
