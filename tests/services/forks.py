"""Work done in forks, one after the other, so that what takes seconds to import is imported once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def exit_codes(works: Iterable[T], do: Callable[[T], object]) -> list[int]:
    """Call ``do`` with each of ``works`` in a process of its own: 0, 1 after an error, or whatever it died with."""
    import mlflow.store.model_registry.sqlalchemy_store
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    codes = []
    for work in works:
        child = os.fork()
        if child == 0:
            try:
                do(work)
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return codes
