"""Calls spread over the workers of a Ray cluster. Ray is optional, and imported only when it is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory
from typing import Any

from softprompt_core import settings
from softprompt_core.errors import Unavailable
from tasks.ray_pool.cluster import connected
from tasks.ray_pool.worker import Driver, Item

__all__ = ["Item", "fan_out"]


def fan_out(work: Callable[..., Any], items: Sequence[Item], *, take_part: bool = False) -> list[Any]:
    """Call ``work`` with each item's arguments on the workers of the Ray cluster, as part of the flow run this is called in.

    A worker has ``ray_cpus_per_task`` cores and ``ray_gpus_per_task`` GPUs while items wait, and keeps the base that it has
    loaded. An item whose worker died is tried again on a new worker or another; ``work`` must go on from what it left in shared
    storage. Progress goes to stderr.

    Args:
        work: a function that workers can import. Like its arguments its result is pickled.
        take_part: this process, a worker itself, takes items too, in a second thread, so that a full cluster does not stop it.

    Returns:
        For each item, in order, what ``work`` returned, or the SoftpromptError that it ended with.

    Raises:
        InvalidInput: Ray is not installed.
        Unavailable: the cluster cannot be reached, or has no room for a single worker.
    """
    if not items:
        return []
    folder = settings.home() / "ray"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shared = TemporaryDirectory(dir=folder, ignore_cleanup_errors=True)
    except OSError as error:
        raise Unavailable(f"cannot be written: {error}", where=str(folder), do="make the folder writable") from None
    with shared, connected():
        from tasks.ray_pool.pool import Pool

        return Pool(work, items, Driver.this_process(shared.name), take_part).run()
