"""MLflow's searches answer in pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from mlflow.store.entities import PagedList

T = TypeVar("T")

PAGE_SIZE = 1000


def pages(search: Callable[..., PagedList[T]], *args: Any, **options: Any) -> Iterator[list[T]]:
    """The pages of ``search(*args, **options)``, which is a search of ``MlflowClient``."""
    token = None
    while True:
        page = search(*args, **options, max_results=PAGE_SIZE, page_token=token)
        yield page
        token = page.token
        if not token:
            return


def search_all(search: Callable[..., PagedList[T]], *args: Any, **options: Any) -> Iterator[T]:
    """All results of a search, as ``pages``."""
    return chain.from_iterable(pages(search, *args, **options))
