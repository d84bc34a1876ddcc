"""Lifecycles that run elsewhere: start runs of deployments on a Prefect server, and follow them to their outcomes.

Only Prefect's API is needed. A server that is away for a while is asked again, and a start that is asked for twice is one run.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import TaskRunSort
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)
from prefect.states import Cancelling
from prefect.utilities.urls import url_for

from flows.handover import mlflow_link, published, read_state_name
from softprompt_core.errors import InvalidInput, NoOutcome, Outcome, SoftpromptError, Unavailable
from softprompt_core.stages.result import LifecycleResult

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

T = TypeVar("T")
Say = Callable[[str], None]

FLOW = "softprompt-lifecycle"
SILENCE_S = 600.0  # without a time limit, a server that says nothing for so long is given up
_PAUSE_S = (0.5, 10.0)  # between two looks: at first, and at most
_ANSWER_S = 15.0  # for one request
_CROWDED = "concurrency limit reached"  # how Prefect says that a run met another of its deployment
_MET_ANOTHER = "another run of the task is under way, and one at a time is allowed\n  → start it again when that one has ended"


@dataclass
class Run:
    """A flow run that was started here, and what has been said about it so far."""

    task: str
    id: UUID
    dry_run: bool
    began: float = field(default_factory=time.monotonic)
    mlflow: str | None = None
    said: set[str] = field(default_factory=set)

    @property
    def url(self) -> str | None:
        return url_for("flow-run", obj_id=self.id)

    @property
    def place(self) -> str:
        return f", {self.url}" if self.url else ""

    def result(self, outcome: Outcome | NoOutcome, reason: str) -> LifecycleResult:
        seconds = round(time.monotonic() - self.began, 1)
        return LifecycleResult(
            self.task, outcome, reason, run_url=self.mlflow, prefect_url=self.url, seconds=seconds, dry_run=self.dry_run
        )


class Interrupted(Exception):
    """Ctrl-C while runs are under way; the message says what has become of them."""


@dataclass(frozen=True)
class Server:
    """A client of the Prefect server, and how long to put up with its silence.

    Attributes:
        deadline: of ``time.monotonic``; None for no limit.
    """

    client: SyncPrefectClient
    deadline: float | None
    say: Say

    def ask(self, question: Callable[[SyncPrefectClient], T]) -> T:
        """The answer, asked for again and again while the server cannot be reached.

        Raises:
            Unavailable: it stayed silent until the deadline, or for ``SILENCE_S`` without one; or it refuses.
        """
        silent_since = time.monotonic()
        limit = silent_since + SILENCE_S if self.deadline is None else self.deadline
        pause, told = _PAUSE_S[0], False
        while True:
            try:
                answer = question(self.client)
            except ObjectNotFound:
                raise
            except (httpx.TransportError, PrefectHTTPStatusError) as error:
                if isinstance(error, PrefectHTTPStatusError) and not _passes(error):
                    raise _refusal(error) from None
                if time.monotonic() + pause >= limit:
                    seconds = time.monotonic() - silent_since
                    raise Unavailable(
                        f"the Prefect server has not answered for {seconds:.0f} s ({type(error).__name__})",
                        where=_address(),
                        do="runs that were started may go on; look again when the server is back",
                    ) from None
                if not told:
                    self.say(f"the Prefect server does not answer ({type(error).__name__}); trying again")
                    told = True
                time.sleep(pause)
                pause = min(pause * 1.5, _PAUSE_S[1])
            else:
                if told:
                    self.say("the Prefect server answers again")
                return answer


def run_remotely(
    tasks: Sequence[str],
    *,
    deployment: str = "{task}",
    force: bool = False,
    dry_run: bool = False,
    wait: bool = False,
    timeout_s: float | None = None,
    cancel_on_interrupt: bool = False,
    say: Say = print,
) -> list[LifecycleResult]:
    """Start the deployment of each task and, with ``wait``, follow the runs; one result a task, in order.

    A run carries on whatever happens here, except where ``cancel_on_interrupt`` is set and this process is interrupted.

    Args:
        deployment: its name, with or without the flow's in front; ``{task}`` in it is the task's name.
        timeout_s: of the whole call; a run that takes longer ends here as ``timed_out``, and goes on there.

    Raises:
        InvalidInput: no server is named.
        Interrupted: instead of KeyboardInterrupt.
    """
    if not PREFECT_API_URL.value():
        raise InvalidInput(
            "deployments need a Prefect server", where="PREFECT_API_URL", do="set it, as in http://127.0.0.1:4200/api"
        )
    # Prefect's own retries take over a minute, whatever the deadline is.
    patient = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: _ANSWER_S}
    with temporary_settings(patient), get_client(sync_client=True) as client:
        server = Server(client, None if timeout_s is None else time.monotonic() + timeout_s, say)
        runs: list[Run | LifecycleResult] = []
        with _interruptions(runs, server, cancel_on_interrupt):
            try:
                for task in tasks:
                    runs.append(_start(server, task, deployment.replace("{task}", task), force=force, dry_run=dry_run))
                if wait:
                    _follow(server, runs)
            except Unavailable as error:
                lost = [run.result(error.outcome, str(error)) if wait and isinstance(run, Run) else run for run in runs]
                unstarted = [LifecycleResult(task, error.outcome, str(error), dry_run=dry_run) for task in tasks[len(runs) :]]
                runs = [*lost, *unstarted]
        return [run if isinstance(run, LifecycleResult) else run.result(NoOutcome.TRIGGERED, "started") for run in runs]


def _start(server: Server, task: str, deployment: str, *, force: bool, dry_run: bool) -> Run | LifecycleResult:
    name = deployment if "/" in deployment else f"{FLOW}/{deployment}"
    # Only what differs from the deployment's own parameters: one that was made by an older release knows no other.
    parameters: dict[str, Any] = {key: True for key, wanted in {"force": force, "dry_run": dry_run}.items() if wanted}
    key = str(uuid4())
    try:
        found = server.ask(lambda client: client.read_deployment_by_name(name))
        made = server.ask(
            lambda client: client.create_flow_run_from_deployment(found.id, parameters=parameters, idempotency_key=key)
        )
    except ObjectNotFound:
        error = InvalidInput(
            f"the Prefect server has no deployment `{name}`", where=_address(), do="make it with `softprompt deploy`"
        )
    except InvalidInput as refused:
        error = refused
    else:
        run = Run(task, made.id, dry_run)
        server.say(f"{task}: started {made.name}{run.place}")
        return run
    return LifecycleResult(task, error.outcome, str(error), dry_run=dry_run)


def _follow(server: Server, runs: list[Run | LifecycleResult]) -> None:
    """Put each run's result in its place, until there are no more runs."""
    pause = _PAUSE_S[0]
    while True:
        late = server.deadline is not None and time.monotonic() >= server.deadline
        for i, run in enumerate(runs):
            if isinstance(run, Run):
                try:
                    runs[i] = _look(server, run, late=late) or run
                except InvalidInput as error:
                    runs[i] = run.result(error.outcome, str(error))
                except ObjectNotFound:
                    runs[i] = run.result(Outcome.UNAVAILABLE, "the Prefect server does not know this run any more")
        if not any(isinstance(run, Run) for run in runs):
            return
        left = pause if server.deadline is None else server.deadline - time.monotonic()
        time.sleep(max(0.0, min(pause, left)))
        pause = min(pause * 1.2, _PAUSE_S[1])


def _look(server: Server, run: Run, *, late: bool) -> LifecycleResult | None:
    """Say what is new about a run; its result if it has ended, or if it is ``late``."""
    seen = server.ask(lambda client: client.read_flow_run(run.id))
    state = seen.state
    if state is None or not state.is_final():
        _say_progress(server, run, seen)
        if not late:
            return None
        words = f"still {state.name if state else 'unknown'} when the time ran out; the run goes on"
        if state is not None and state.is_scheduled():
            words += ". No worker has taken it: does one serve its work pool?"
        return run.result(NoOutcome.TIMED_OUT, words)
    details = server.ask(lambda client: published(client, run.id))
    outcome, _ = read_state_name(state.name)
    reason = (state.message or state.name or "").strip()
    if outcome is not None:
        if details is not None and details.outcome is outcome:
            return replace(details, prefect_url=run.url)
        return run.result(outcome, reason)
    if state.type is StateType.CANCELLED:
        return run.result(NoOutcome.CANCELLED, _MET_ANOTHER if _CROWDED in reason else reason)
    return run.result(Outcome.UNAVAILABLE, f"the run ended as {state.name}: {reason}")


def _say_progress(server: Server, run: Run, seen: FlowRun) -> None:
    def once(words: str) -> None:
        if words not in run.said:
            run.said.add(words)
            server.say(f"{run.task}: {words}")

    if seen.state is not None:
        once(seen.state.name or seen.state.type.value)
    if seen.state is None or not seen.state.is_running():
        return
    here = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    in_order = TaskRunSort.EXPECTED_START_TIME_ASC
    for task in server.ask(lambda client: client.read_task_runs(flow_run_filter=here, sort=in_order)):
        once(task.name)
    if run.mlflow is None:
        run.mlflow = server.ask(lambda client: mlflow_link(client, run.id))
        if run.mlflow:
            once(run.mlflow)


@contextmanager
def _interruptions(runs: list[Run | LifecycleResult], server: Server, cancel: bool) -> Iterator[None]:
    """Turn Ctrl-C into ``Interrupted``; with ``cancel`` also the SIGTERM that CI systems send, after cancelling the runs."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop) if cancel and threading.current_thread() is threading.main_thread() else None
    try:
        yield
    except KeyboardInterrupt:
        under_way = [run for run in runs if isinstance(run, Run)]
        said = [_cancel(server.client, run) if cancel else f"{run.task} goes on{run.place}" for run in under_way]
        raise Interrupted("; ".join(said) or "no run was started") from None
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _cancel(client: SyncPrefectClient, run: Run) -> str:
    with suppress(httpx.HTTPError, ObjectNotFound):
        client.set_flow_run_state(run.id, Cancelling(message="the command that waited for it was interrupted"))
        return f"{run.task} is being cancelled"
    return f"{run.task} could not be cancelled{run.place}"


def _passes(error: PrefectHTTPStatusError) -> bool:
    """Whether the same question may be answered later. After a refused CSRF token the client has fetched another."""
    status = error.response.status_code
    return status in (408, 429, 500, 502, 503, 504) or (status == 403 and "CSRF" in error.response.text)


def _refusal(error: PrefectHTTPStatusError) -> SoftpromptError:
    status = error.response.status_code
    if status in (401, 403):
        return Unavailable(
            f"the Prefect server refuses this user (HTTP {status})", where=_address(), do="set PREFECT_API_AUTH_STRING"
        )
    words = " ".join(error.response.text.split())[:400]
    return InvalidInput(
        f"the Prefect server refuses the request (HTTP {status}): {words}", where=_address(), do="deploy again with this release"
    )


def _address() -> str:
    return f"PREFECT_API_URL {PREFECT_API_URL.value()}"
