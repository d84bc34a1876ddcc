"""The Ray cluster: connect to it or start one on this machine, and how many workers it has room for."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

from softprompt_core import settings
from softprompt_core.errors import InvalidInput, Unavailable
from softprompt_core.store.failures import in_brief

_CONNECT_S = 10.0


@contextmanager
def connected() -> Iterator[None]:
    """Connect this process to the cluster of the settings, or start one on this machine; a worker is connected already."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # progress lines of several workers look alike
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's later default; it warns until then
    try:
        import ray
        from ray.exceptions import RayError
    except ImportError:
        do = "pip install 'softprompt-lifecycle[ray]'"
        raise InvalidInput("spreading work out needs the package ray", where="--ray", do=do) from None
    if ray.is_initialized():
        yield
        return
    address = settings.current().ray_address
    try:
        with redirect_stdout(sys.stderr):  # Ray prints to stdout until it has ended; that may be for JSON
            try:
                with _signal_handler_kept():
                    _connect(address)
                yield
            finally:
                ray.shutdown()
    except (RayError, OSError) as error:
        where = f"RAY_ADDRESS {address}" if address else "Ray on this machine"
        do = "start the cluster, correct the address, or give its token in RAY_AUTH_TOKEN (docs/ray.md)"
        raise Unavailable(f"Ray cannot be used: {in_brief(error)}", where=where, do=do) from None


@contextmanager
def _signal_handler_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it starts: it would end this process at once, with the exit code 15."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def _connect(address: str | None) -> None:
    import ray

    options: dict[str, Any] = {"namespace": "softprompt", "logging_level": "ERROR"}
    if address is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        options |= {"num_cpus": cores, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        options |= {"object_store_memory": 100_000_000}  # messages are small; results go through shared storage
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():  # Ray itself tries for minutes
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    try:
        ray.init(address or "local", **options)
    except Exception as error:  # no cluster, another release, no token, a start that took too long: of any class
        raise ConnectionError(error) from None


def worker_resources(nodes: Sequence[dict[str, float]]) -> dict[str, float]:
    """What one worker gets, as Ray names it: by the settings, and by whether a node has GPUs."""
    cpus, gpus = settings.current().ray_cpus_per_task, settings.current().ray_gpus_per_task
    return {"CPU": cpus, "GPU": float(any(node.get("GPU", 0) >= 1 for node in nodes)) if gpus is None else gpus}


def room(worker: dict[str, float], nodes: Sequence[dict[str, float]]) -> int:
    """How many workers fit on the nodes. Raises Unavailable when none does."""
    needs = [(name, amount) for name, amount in worker.items() if amount]
    workers = sum(min(int(node.get(name, 0.0) / amount + 1e-9) for name, amount in needs) for node in nodes)
    if not workers:
        needed, *present = (f"{node.get('CPU', 0):g} core(s) and {node.get('GPU', 0):g} GPU(s)" for node in (worker, *nodes))
        what = f"no node of the Ray cluster has {needed}; there are {'; '.join(present) or 'none'}"
        do = "ask for less; or set ray_workers where nodes are added on demand"
        raise Unavailable(what, where="ray_cpus_per_task, ray_gpus_per_task", do=do)
    return workers
