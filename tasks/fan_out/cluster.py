"""The Ray cluster: connect to it or start one on this machine, and how many workers it has room for."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

from softprompt_core import settings
from softprompt_core.errors import InvalidInput, Unavailable

_SMALL = 100_000_000  # bytes of Ray's object store: what travels is small, results go through shared storage
_PATIENCE_S = 10.0
_EARLY = ("PREFECT_LOGGING_", "DO_NOT_TRACK", "TOKENIZERS_PARALLELISM")
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",  # progress lines of several workers look alike
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what Ray will do by itself from some release on, and warns of until then
}


@dataclass(frozen=True)
class Share:
    """What one worker gets."""

    cpus: int
    gpus: float

    def __str__(self) -> str:
        return f"{self.cpus} core(s) and {self.gpus:g} GPU(s)"

    def fits(self, node: dict[str, float]) -> int:
        """How many workers a node with these resources has room for."""
        times = int(node.get("CPU", 0.0) // self.cpus)
        if self.gpus > 1:
            times = min(times, int(node.get("GPU", 0.0) // self.gpus))
        elif self.gpus > 0:
            times = min(times, int(node.get("GPU", 0.0)) * int(1 / self.gpus))
        return times


@contextmanager
def connected() -> Iterator[None]:
    """Connect this process to the cluster of the settings, or start one on this machine; inside of a worker do nothing.

    Raises:
        InvalidInput: Ray is not installed.
        Unavailable: there is no cluster at the address, it is of another release, or it refuses this user.
    """
    for name, value in {**_QUIET, "RAY_COLOR_PREFIX": str(int(sys.stderr.isatty()))}.items():
        os.environ.setdefault(name, value)
    try:
        import prefect_ray  # noqa: F401
        import ray
    except ImportError:
        raise InvalidInput(
            "spreading work out needs the packages ray and prefect-ray",
            where="--ray",
            do="pip install 'softprompt-lifecycle[ray]'",
        ) from None
    if ray.is_initialized():
        yield
        return
    with redirect_stdout(sys.stderr):  # Ray prints there what it has to say, and stdout may be for JSON
        _start(settings.current().ray_address)
        try:
            yield
        finally:
            ray.shutdown()


def _start(address: str | None) -> None:
    import ray
    from ray.exceptions import RayError

    options: dict[str, Any] = {"namespace": "softprompt", "logging_level": "ERROR", "log_to_driver": True}
    if address is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        options |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": _SMALL}
        options |= {"_node_ip_address": "127.0.0.1"}
    else:
        # Read when Prefect is imported. No secrets: Ray's pages show this.
        early = {name: value for name, value in os.environ.items() if name.startswith(_EARLY)}
        options["runtime_env"] = {"env_vars": early}
    try:
        _require_answer(address)
        ray.init(address or "local", **options)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Unavailable(
            f"Ray cannot be used: {first}",
            where=f"RAY_ADDRESS {address}" if address else "Ray on this machine",
            do="start the cluster, correct the address, or give its token in RAY_AUTH_TOKEN (docs/ray.md)",
        ) from None


def _require_answer(address: str | None) -> None:
    """Knock at the cluster's door: Ray itself tries for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE_S).close()


@contextmanager
def explained() -> Iterator[None]:
    """Turn what Ray raises while work goes on into Unavailable."""
    from ray.exceptions import RayError

    try:
        yield
    except (RayError, ImportError, ConnectionError) as error:
        words = [line for line in str(error).splitlines() if line.strip()] or [""]
        raise Unavailable(
            f"Ray failed: {type(error).__name__}: {words[-1].strip()}",
            where=f"RAY_ADDRESS {settings.current().ray_address or ''}".strip(),
            do="is the head node up, and does every node have softprompt-lifecycle[ray] of this release? (docs/ray.md)",
        ) from None


def share() -> Share:
    """What a worker gets, by the settings and by what the cluster has."""
    import ray

    found = settings.current()
    gpus = found.ray_gpus_per_task
    if gpus is None:
        gpus = 1.0 if any(_resources(node).get("GPU", 0) >= 1 for node in ray.nodes()) else 0.0
    return Share(found.ray_cpus_per_task, gpus)


def room(wanted: Share) -> int:
    """How many workers to start: the setting, or what the cluster has room for now.

    Raises:
        Unavailable: no node has room for one.
    """
    import ray

    limit = settings.current().ray_workers
    if limit is not None:
        return limit
    nodes = [_resources(node) for node in ray.nodes()]
    places = sum(wanted.fits(node) for node in nodes)
    if places == 0:
        have = "; ".join(f"{node.get('CPU', 0):g} core(s), {node.get('GPU', 0):g} GPU(s)" for node in nodes)
        raise Unavailable(
            f"no node of the Ray cluster has {wanted}; there are {have or 'none'}",
            where="ray_cpus_per_task, ray_gpus_per_task",
            do="ask for less; or set ray_workers where nodes are added on demand",
        )
    return places


def living() -> list[str]:
    """Ids of the nodes that are alive."""
    import ray

    return [node["NodeID"] for node in ray.nodes() if node["Alive"]]


def _resources(node: dict[str, object]) -> dict[str, float]:
    resources = node.get("Resources")
    return dict(resources) if node["Alive"] and isinstance(resources, dict) else {}
