"""A worker: one process of the cluster with one share of its cores and GPUs, which takes items until none is left.

Ray would run an item a task, and end a process that used a GPU after each. A worker keeps its process, and with it the base.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import tags, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.states import Crashed

from softprompt_core.errors import SoftpromptError, Unavailable
from softprompt_core.registry import processes
from tasks.fan_out.queue import Taken, Worker

TRAVELLING = ("SOFTPROMPT_", "MLFLOW_", "PREFECT_")
_HERE_ONLY = ("SOFTPROMPT_CONFIG", "SOFTPROMPT_PROFILE")  # the file stays here; what it says is in the other variables


@dataclass(frozen=True)
class Place:
    """What a worker needs to know of the driver, and must find in its own place.

    Attributes:
        environment: settings, as variables; some are secret.
        folder: the driver's current folder; workers go there where they have it, too.
        token: a file in ``home``, which driver and workers must both see.
        library: fingerprint of the code.
        host: the driver's machine.
        lonely: why this cannot run on other machines; None when it can.
        threads: for a worker's arithmetic.
    """

    environment: dict[str, str]
    folder: str
    token: str
    library: str
    host: str
    lonely: str | None
    threads: int


def travelling(environment: dict[str, str], names: set[str]) -> dict[str, str]:
    """The variables that workers are given.

    Args:
        names: of single variables beside those with our, MLflow's and Prefect's prefixes.
    """
    return {
        name: value
        for name, value in environment.items()
        if (name.startswith(TRAVELLING) or name in names) and name not in _HERE_ONLY
    }


@task(name="ray worker", task_run_name="ray worker {number}", cache_policy=NO_CACHE, persist_result=False)
def work_off(number: int, queue: Any, work: Callable[..., Any], place: Place) -> str:
    """Take items from the queue and call ``work`` with each until none is left; says what was done.

    Raises:
        Unavailable: this machine does not see the driver's storage, has other code, or cannot reach its stores.
    """
    import ray

    settle_in(place)
    node = ray.get_runtime_context().get_node_id()
    with redirect_stdout(sys.stderr):  # Ray prints what workers write at the driver, where stdout may be for JSON
        return take_all(number, node, queue, work)


def settle_in(place: Place) -> None:
    """Make this process a worker of the driver's."""
    host = socket.gethostname()
    for name in [name for name in os.environ if name.startswith(TRAVELLING)]:
        del os.environ[name]
    os.environ.update(place.environment)
    if Path(place.folder).is_dir():
        os.chdir(place.folder)
    if not Path(place.token).is_file():
        raise Unavailable(
            f"{host} does not see the folder of {place.host}: results go through shared storage",
            where=f"SOFTPROMPT_HOME {Path(place.token).parents[1]}",
            do="put SOFTPROMPT_HOME on storage that driver and workers have mounted at the same path",
        )
    if place.lonely and host != place.host:
        raise Unavailable(
            place.lonely,
            where=f"worker on {host}",
            do="set MLFLOW_TRACKING_URI and PREFECT_API_URL to servers that every machine reaches",
        )
    from softprompt_core.fingerprint import library_fingerprint

    if library_fingerprint() != place.library:
        raise Unavailable(
            f"{host} has another softprompt_core than {place.host}",
            where="softprompt_core",
            do="install the same release on driver and workers",
        )
    import torch

    torch.set_num_threads(place.threads)


def take_all(number: int, node: str, queue: Any, work: Callable[..., Any]) -> str:
    """Items from the queue until none is left."""
    import ray

    from softprompt_core.base_model.loading import loads

    me = Worker(number, node, processes.me())
    began, before, count = time.monotonic(), loads(), 0
    while (taken := ray.get(queue.take.remote(me))) is not None:
        ray.get(queue.say.remote(f"{taken.item.label}: on worker {number} ({processes.in_words(me.process)})"))
        ray.get(queue.done.remote(taken.index, _outcome(work, taken, me)))
        count += 1
    loaded = loads() - before
    seconds = time.monotonic() - began
    words = f"worker {number} ({processes.in_words(me.process)}): items {count}, bases loaded {loaded}, {seconds:.0f} s"
    ray.get(queue.say.remote(words))
    return words


def _outcome(work: Callable[..., Any], taken: Taken, me: Worker) -> Any:
    """What the call returns or raises; an error that only this process could read comes as one that everybody can."""
    try:
        if taken.before:
            _bury(taken.before)
        with tags(_tag(me.process)):
            return work(*taken.item.arguments)
    except SoftpromptError as error:
        return error
    except Exception as error:
        traceback.print_exc()
        return Unavailable(f"{type(error).__name__}: {error} (traceback on stderr)", where=taken.item.label)


def _tag(process: str) -> str:
    """A tag of flow runs that names the worker they ran on."""
    return f"ray worker: {processes.in_words(process)}"


def _bury(dead: tuple[str, ...]) -> None:
    """Close what dead workers left open: runs in MLflow, and flow runs in Prefect, which would stay `Running` for ever."""
    from softprompt_core import registry
    from softprompt_core.stages import record

    registry.end_all_killed_runs(record.client(), dead)
    left = {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}
    with get_client(sync_client=True) as client:
        for process in dead:
            wanted = FlowRunFilter.model_validate({**left, "tags": {"all_": [_tag(process)]}})
            for run in client.read_flow_runs(flow_run_filter=wanted):
                client.set_flow_run_state(run.id, Crashed(message="its Ray worker died; another goes on"), force=True)
