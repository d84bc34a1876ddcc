"""Prefect in this process, pointed at one server after another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def prefect_client(url: str, **settings: Any) -> Iterator[None]:
    """Use the server at ``url`` for as long as a ``with`` block lasts.

    The threads that send events and logs stay with the server that they began with, until they are ended: so they are ended here,
    while their servers still run.

    Args:
        settings: more of Prefect's, by the names of ``prefect.settings``.
    """
    import prefect.settings

    values = {getattr(prefect.settings, name): value for name, value in {"PREFECT_API_URL": url, **settings}.items()}
    _end_senders()
    with prefect.settings.temporary_settings(values):
        try:
            yield
        finally:
            _end_senders()


def _end_senders() -> None:
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    EventsWorker.drain_all(timeout=30)
    APILogWorker.drain_all(timeout=30)
