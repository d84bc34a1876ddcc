"""The driver's side: start workers, follow them, gather what came out."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from softprompt_core import settings
from softprompt_core.errors import SoftpromptError, Unavailable
from softprompt_core.fingerprint import library_fingerprint
from softprompt_core.stages.record import stores
from softprompt_core.stages.workspace import home
from tasks.fan_out import cluster
from tasks.fan_out.queue import TRIES, Item, Queue
from tasks.fan_out.worker import Place, take_all, travelling, work_off

_LOOK_SECONDS = 0.5
_END_SECONDS = 30.0  # for workers to tell Prefect that they are done, once all is


def fan_out(work: Callable[..., Any], items: Sequence[Item], *, take_part: bool = False) -> list[Any]:
    """Call ``work`` with each item's arguments on the workers of the Ray cluster, as tasks of the flow that this is called in.

    Every worker has ``ray_cpus_per_task`` cores and ``ray_gpus_per_task`` GPUs for as long as there is work, and keeps the bases
    that it has loaded. What a worker was at when its process or node died is done by another; ``work`` must go on from
    what it left in shared storage. Progress goes to stderr.

    Args:
        work: a function that workers can import. Like its arguments its result is pickled.
        take_part: this process, which must be a worker itself, takes items too, so that a full cluster does not stop it.

    Returns:
        For each item, in order, what ``work`` returned, or the SoftpromptError that it ended with.

    Raises:
        InvalidInput: Ray is not installed.
        Unavailable: the cluster cannot be reached, or has no room for a single worker.
    """
    if not items:
        return []
    with cluster.connected(), cluster.explained(), _place() as place:
        import ray
        from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings
        from prefect_ray import RayTaskRunner
        from prefect_ray.context import remote_options
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        share = cluster.share()
        here = ray.get_runtime_context().get_node_id()
        # Beside the driver: the queue need not outlive it, and takes no core from the workers.
        by_me = NodeAffinitySchedulingStrategy(here, soft=False)
        queue = ray.remote(Queue).options(num_cpus=0, scheduling_strategy=by_me).remote(list(items))
        numbers = range(1, min(len(items) - take_part, cluster.room(share)) + 1)
        # Ray's count is of a worker's deaths; the queue's, of deaths over one item, is what gives up.
        options = dict(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=TRIES * len(items))
        with (
            RayTaskRunner() as runner,
            remote_options(**options),
            temporary_settings({one: place.environment.get(one.name) for one in (PREFECT_API_URL, PREFECT_UI_URL)}),
        ):
            shared = dict(queue=queue, work=work, place=place)
            workers = {number: runner.submit(work_off, {"number": number, **shared}) for number in numbers}

            def join() -> None:
                if take_part:
                    take_all(0, here, queue, work)

            return _follow(queue, workers, items, join)


@contextmanager
def _place() -> Iterator[Place]:
    from prefect.client.orchestration import get_client

    token = home() / "ray" / uuid4().hex
    try:
        token.parent.mkdir(parents=True, exist_ok=True)
        token.touch()
    except OSError as error:
        where = f"SOFTPROMPT_HOME {home()}"
        raise Unavailable(f"cannot be written: {error}", where=where, do="make the folder writable") from None
    found = settings.current()
    settings.export()
    with get_client(sync_client=True) as client:
        prefect = str(client.api_url)  # of its own server too, which workers on this machine then share
    environment = travelling(dict(os.environ), {settings.variable(name) for name in settings.Settings.model_fields})
    environment |= {"SOFTPROMPT_HOME": str(home()), "PREFECT_API_URL": prefect}
    environment.pop("RAY_ADDRESS", None)  # a worker is in its cluster already
    if found.prefect_api_url is None:
        environment["PREFECT_UI_URL"] = ""  # a link to pages that end with this command would lead nowhere
    try:
        yield Place(
            environment=environment,
            folder=str(Path.cwd()),
            token=str(token),
            library=library_fingerprint(),
            host=socket.gethostname(),
            lonely=_lonely(found),
            threads=found.ray_cpus_per_task,
        )
    finally:
        token.unlink(missing_ok=True)


def _lonely(found: settings.Settings) -> str | None:
    """Why workers on other machines would not work."""
    where = stores()
    if any(uri.startswith("sqlite") for uri in (where.tracking_uri, where.models_uri)):
        return "MLflow's record is a SQLite file, which several machines cannot write safely"
    if found.prefect_api_url is None:
        return "Prefect's server is the command's own, which other machines cannot reach"
    return None


def _follow(queue: Any, workers: dict[int, Any], items: Sequence[Item], join: Callable[[], None]) -> list[Any]:
    """Until every item has a result or no worker is left; then let the workers end."""
    import ray

    futures = {number: worker.wrapped_future for number, worker in workers.items()}
    under_way = bool(futures)
    while True:
        join()
        said, complete = ray.get(queue.look.remote(cluster.living()))
        for words in said:
            print(f"  {words}", file=sys.stderr, flush=True)
        if complete or not under_way:
            break
        _, running = ray.wait(list(futures.values()), num_returns=len(futures), timeout=_LOOK_SECONDS)
        under_way = bool(running)
    problems = _end(queue, workers, futures)
    results = ray.get(queue.results.remote())
    if complete and problems:
        print(f"  a worker was of no use: {problems[0]}", file=sys.stderr, flush=True)
    lost = problems[0] if problems else Unavailable("the workers ended without a result", do="look into the logs of Ray")
    return [results.get(index, lost) for index in range(len(items))]


def _end(queue: Any, workers: dict[int, Any], futures: dict[int, Any]) -> list[SoftpromptError]:
    """Give the workers time to tell Prefect that they are done, and forget those that never found a place; what went wrong."""
    import ray

    called = ray.get(queue.called.remote())
    begun = [future for number, future in futures.items() if number in called]
    if begun:
        ray.wait(begun, num_returns=len(begun), timeout=_END_SECONDS)
    ended = set(ray.wait(list(futures.values()), num_returns=len(futures), timeout=0)[0]) if futures else set()
    problems: list[SoftpromptError] = []
    for number, worker in workers.items():
        if futures[number] not in ended:
            ray.cancel(futures[number], force=True)
            continue
        found = worker.result(raise_on_failure=False)
        if isinstance(found, SoftpromptError):
            problems.append(found)
        elif isinstance(found, BaseException):
            problems.append(Unavailable(f"a worker failed: {type(found).__name__}: {found}", do="look into the logs of Ray"))
    return problems
