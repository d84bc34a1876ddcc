"""A worker: a Ray actor, and so one process that keeps its base model from one call to the next.

Prefect reads the environment when it is imported, so that happens only after the driver's settings have arrived.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from softprompt_core import settings
from softprompt_core.errors import SoftpromptError, Unavailable
from softprompt_core.fingerprint import library_fingerprint
from softprompt_core.masking import masked, print_traceback
from softprompt_core.store import processes
from softprompt_core.store.addresses import Addresses
from softprompt_core.store.failures import in_brief

_PREFIXES = ("SOFTPROMPT_", "MLFLOW_", "PREFECT_")
_OTHERS = {"DO_NOT_TRACK", "TOKENIZERS_PARALLELISM"}
_DRIVER_ONLY = {"SOFTPROMPT_CONFIG", "SOFTPROMPT_PROFILE", "RAY_ADDRESS"}  # other variables say what a settings file says
_FLUSH_S = 30.0


@dataclass(frozen=True)
class Item:
    """One call.

    Attributes:
        label: its name in messages.
        base: items with equal text need the same base; a worker that has loaded it takes them first.
        arguments: of the call; small, they travel by message.
    """

    label: str
    base: str
    arguments: tuple[Any, ...]


class Unfit(Unavailable):
    """This machine cannot do the driver's work."""


@dataclass(frozen=True)
class Driver:
    """What a worker is told of the driver, and must find on its own machine.

    Attributes:
        environment: settings as variables; some are secret, so they travel by message: Ray's pages show a ``runtime_env``.
        folder: the driver's current folder; workers change to it where it exists.
        shared: a folder in SOFTPROMPT_HOME, which driver and workers must both see.
        flow_run: the Prefect run that the work belongs to, as Prefect hands it to other processes.
    """

    environment: dict[str, str]
    folder: str
    shared: str
    host: str
    library: str
    flow_run: dict[str, Any]

    @classmethod
    def this_process(cls, shared: str) -> Driver:
        """Called in a flow run."""
        from prefect.client.orchestration import get_client
        from prefect.context import serialize_context
        from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings

        settings.export()
        with get_client(sync_client=True) as client:
            api = str(client.api_url)  # of a server that the command started for itself, too
        environment = shared_variables(dict(os.environ)) | {"SOFTPROMPT_HOME": str(settings.home()), "PREFECT_API_URL": api}
        if settings.current().prefect_api_url is None:
            environment["PREFECT_UI_URL"] = ""  # its pages end with the command
        with temporary_settings({PREFECT_API_URL: api, PREFECT_UI_URL: environment.get("PREFECT_UI_URL")}):
            flow_run = serialize_context()
        return cls(environment, str(Path.cwd()), shared, socket.gethostname(), library_fingerprint(), flow_run)

    def settle_in(self) -> None:
        """Make this process a worker: with the driver's settings and none of its own. Raises Unfit."""
        for name in [name for name in os.environ if name.startswith(_PREFIXES)]:
            del os.environ[name]
        os.environ.update(self.environment)
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        host, addresses = socket.gethostname(), Addresses.from_settings()
        if not Path(self.shared).is_dir():
            what = f"{host} does not see the folder of {self.host}: results go through shared storage"
            do = "put SOFTPROMPT_HOME on storage that driver and workers have mounted at the same path"
            raise Unfit(what, where=f"SOFTPROMPT_HOME {settings.home()}", do=do)
        for address in (addresses.tracking_uri, addresses.models_uri, self.environment["PREFECT_API_URL"]):
            local = address.startswith("sqlite") or urlsplit(address).hostname in ("127.0.0.1", "localhost", "::1")
            if local and host != self.host:
                what = f"{masked(address)} can only be used on {self.host}"
                do = "set MLFLOW_TRACKING_URI and PREFECT_API_URL to servers that every machine reaches"
                raise Unfit(what, where=f"worker on {host}", do=do)
        if library_fingerprint() != self.library:
            what = f"{host} has another softprompt_core than {self.host}"
            raise Unfit(what, where="softprompt_core", do="install the same release on driver and workers")
        import torch

        torch.set_num_threads(settings.current().ray_cpus_per_task)


def shared_variables(environment: dict[str, str]) -> dict[str, str]:
    """The variables that workers are given: settings, and what is MLflow's and Prefect's."""
    names = _OTHERS | {settings.variable(name) for name in settings.Settings.model_fields}
    names |= {name for name in environment if name.startswith(_PREFIXES)}
    return {name: environment[name] for name in names - _DRIVER_ONLY if name in environment}


class Worker:
    """The actor."""

    def __init__(self, driver: Driver) -> None:
        self._flow_run = driver.flow_run
        self._unfit: Unfit | None = None
        try:
            driver.settle_in()
        except Unfit as error:
            self._unfit = error  # Ray would wrap it

    def process(self) -> str:
        """The name of this process in the record."""
        return processes.this_process()

    def call(self, work: Callable[..., Any], item: Item, dead: Sequence[str]) -> Any:
        """What ``work`` returns, or the SoftpromptError that it ends with; called as part of the driver's flow run.

        Args:
            dead: names of the processes that died over it.
        """
        if self._unfit is not None:
            return self._unfit
        from prefect import tags
        from prefect.context import hydrated_context

        # Ray shows what workers print to the driver's stdout, which may be for JSON.
        with redirect_stdout(sys.stderr), hydrated_context(self._flow_run), tags(_tag(processes.this_process())):
            print(f"  {item.label}: on worker {processes.describe(processes.this_process())}", flush=True)
            try:
                close_runs(dead)
                return work(*item.arguments)
            except SoftpromptError as error:
                return error
            except Exception as error:  # which perhaps only this process can read
                print_traceback(error)
                return Unavailable(f"{type(error).__name__}: {in_brief(error)} (traceback on stderr)", where=item.label)

    def finish(self) -> int:
        """Deliver what Prefect's client sends in the background. Returns how many bases this process has loaded."""
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        from softprompt_core.base_model.loading import loads

        EventsWorker.drain_all(timeout=_FLUSH_S, at_exit=False)
        APILogWorker.drain_all(timeout=_FLUSH_S, at_exit=False)
        return loads()


def _tag(process: str) -> str:
    """A tag of flow runs that names the worker they are on."""
    return f"ray worker: {processes.describe(process)}"


def close_runs(dead: Sequence[str], error: BaseException | None = None) -> None:
    """Close what dead workers left open in MLflow and in Prefect, where it would stay `Running` for ever.

    Args:
        error: why they were ended.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.states import Crashed

    from softprompt_core.store import runs
    from softprompt_core.store.connection import Store

    if not any(dead):
        return
    how = runs.KILLED if error is None else runs.ending_of(error)
    runs.end_all_killed_runs(Store.connect(), [process for process in dead if process], how)
    with get_client(sync_client=True) as client:
        for process in filter(None, dead):
            left_open = {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}, "tags": {"all_": [_tag(process)]}}
            for run in client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(left_open)):
                message = "its Ray worker died; another goes on" if error is None else f"interrupted: {error}"
                client.set_flow_run_state(run.id, Crashed(message=message), force=True)
