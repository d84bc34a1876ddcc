"""Lifecycles that run elsewhere: start runs of deployments on a Prefect server, and follow them to their outcomes.

Only Prefect's API is needed. A server that is away for a while is asked again, and a start that is asked for twice is one run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.remote.run import Run, start
from flows.remote.server import PAUSE_S, Say, Server
from flows.stopping import Stopped
from softprompt_core.errors import InvalidInput, NoOutcome, Unavailable
from softprompt_core.lifecycle.result import LifecycleResult

_ANSWER_S = 15.0  # for one request


@dataclass(frozen=True)
class Request:
    """How the deployments of tasks are run.

    Attributes:
        deployment: its name, with or without the flow's in front; ``{task}`` in it is the task's name.
        wait: follow the runs to their outcomes.
        timeout_s: of the whole call; a run that takes longer ends here as ``timed_out``, and goes on there.
        cancel_on_interrupt: cancel the runs when this process is interrupted; else they go on whatever happens here.
    """

    deployment: str = "{task}"
    force: bool = False
    dry_run: bool = False
    wait: bool = False
    timeout_s: float | None = None
    cancel_on_interrupt: bool = False


def run_remotely(tasks: Sequence[str], request: Request, say: Say = print) -> list[LifecycleResult]:
    """Start the deployment of each task and, if asked to, follow the runs; one result a task, in order.

    Raises:
        InvalidInput: no server is named.
        Stopped: a signal came; it says what has become of the runs.
    """
    if not PREFECT_API_URL.value():
        do = "set it, as in http://127.0.0.1:4200/api"
        raise InvalidInput("deployments need a Prefect server", where="PREFECT_API_URL", do=do)
    # Prefect's own retries take over a minute, whatever the deadline is.
    impatient = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: _ANSWER_S}
    with temporary_settings(impatient), get_client(sync_client=True) as client:
        server = Server(client, None if request.timeout_s is None else time.monotonic() + request.timeout_s, say)
        runs: list[Run | LifecycleResult] = []
        with _interruptions(runs, server, request.cancel_on_interrupt):
            try:
                for task in tasks:
                    deployment = request.deployment.replace("{task}", task)
                    runs.append(start(server, task, deployment, force=request.force, dry_run=request.dry_run))
                if request.wait:
                    _follow(server, runs)
            except Unavailable as error:
                lost = [run.result(error.outcome, str(error)) if request.wait and isinstance(run, Run) else run for run in runs]
                not_started = tasks[len(runs) :]
                failed = dict(outcome=error.outcome, reason=str(error), dry_run=request.dry_run)
                unstarted = [LifecycleResult(task=task, **failed) for task in not_started]
                runs = [*lost, *unstarted]
        return [run if isinstance(run, LifecycleResult) else run.result(NoOutcome.TRIGGERED, "started") for run in runs]


def _follow(server: Server, runs: list[Run | LifecycleResult]) -> None:
    """Replace each run by its result, until there are no more runs."""
    pause = PAUSE_S[0]
    while True:
        late = server.deadline is not None and time.monotonic() >= server.deadline
        for index, run in enumerate(runs):
            if isinstance(run, Run):
                runs[index] = run.look(server, late=late) or run
        if not any(isinstance(run, Run) for run in runs):
            return
        left = pause if server.deadline is None else server.deadline - time.monotonic()
        time.sleep(max(0.0, min(pause, left)))
        pause = min(pause * 1.2, PAUSE_S[1])


@contextmanager
def _interruptions(runs: list[Run | LifecycleResult], server: Server, cancel: bool) -> Iterator[None]:
    """Say in ``Stopped`` what becomes of the runs; with ``cancel`` they are cancelled first."""
    try:
        yield
    except Stopped as stopped:
        active = [run for run in runs if isinstance(run, Run)]
        messages = [run.cancel(server.client) if cancel else f"{run.task} goes on{run.url_suffix}" for run in active]
        raise Stopped(stopped.signal, "; ".join(messages) or "no run was started") from None
