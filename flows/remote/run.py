"""One flow run of a deployment: started, looked at until it has ended, cancelled."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import TaskRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling
from prefect.utilities.urls import url_for

from flows.remote.server import Server, address
from flows.results import mlflow_link, published
from flows.state_names import read_stands_for, read_state_name
from softprompt_core.errors import InvalidInput, NoOutcome, Outcome
from softprompt_core.lifecycle.result import LifecycleResult

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

FLOW = "softprompt-lifecycle"
_LIMIT_REACHED = "concurrency limit reached"  # Prefect's words for a run that met another of its deployment
_OVERLAPPED = "another run of the task is under way, and one at a time is allowed\n  → start it again when that one has ended"


@dataclass
class Run:
    """A flow run that was started here, and the messages about it so far."""

    task: str
    id: UUID
    dry_run: bool
    began: float = field(default_factory=time.monotonic)
    mlflow: str | None = None
    messages: set[str] = field(default_factory=set)

    @property
    def url(self) -> str | None:
        return url_for("flow-run", obj_id=self.id)

    @property
    def url_suffix(self) -> str:
        return f", {self.url}" if self.url else ""

    def result(self, outcome: Outcome | NoOutcome, reason: str) -> LifecycleResult:
        seconds = round(time.monotonic() - self.began, 1)
        return LifecycleResult(
            task=self.task,
            outcome=outcome,
            reason=reason,
            run_url=self.mlflow,
            prefect_url=self.url,
            seconds=seconds,
            dry_run=self.dry_run,
        )

    def look(self, server: Server, *, late: bool) -> LifecycleResult | None:
        """Tell what is new; the result if the run has ended, or if it is ``late``.

        Raises:
            Unavailable: the server does not answer.
        """
        try:
            flow_run = server.ask(lambda client: client.read_flow_run(self.id))
            if flow_run.state is None or not flow_run.state.is_final():
                self._tell_progress(server, flow_run)
                return self._timed_out(flow_run) if late else None
            return self._final_result(server, flow_run)
        except InvalidInput as error:
            return self.result(error.outcome, str(error))
        except ObjectNotFound:
            return self.result(Outcome.UNAVAILABLE, "the Prefect server does not know this run any more")

    def cancel(self, client: SyncPrefectClient) -> str:
        """Ask Prefect to cancel the run. Returns what became of it, for a message."""
        with suppress(httpx.HTTPError, ObjectNotFound):
            client.set_flow_run_state(self.id, Cancelling(message="the command that waited for it was interrupted"))
            return f"{self.task} is being cancelled"
        return f"{self.task} could not be cancelled{self.url_suffix}"

    def _timed_out(self, flow_run: FlowRun) -> LifecycleResult:
        state = flow_run.state
        reason = f"still {state.name if state else 'unknown'} when the time ran out; the run goes on"
        if state is not None and state.is_scheduled():
            reason += ". No worker has taken it: does one serve its work pool?"
        return self.result(NoOutcome.TIMED_OUT, reason)

    def _final_result(self, server: Server, flow_run: FlowRun) -> LifecycleResult:
        state = flow_run.state
        assert state is not None  # only final states get here
        details = server.ask(lambda client: published(client, self.id))
        outcome, _ = read_state_name(state.name)
        reason = (state.message or state.name or "").strip()
        if outcome is not None:
            if details is not None and details.outcome is outcome:
                return details.model_copy(update={"prefect_url": self.url})
            return self.result(outcome, reason).model_copy(update={"stands_for": read_stands_for(state.name)})
        if state.type is StateType.CANCELLED:
            return self.result(NoOutcome.CANCELLED, _OVERLAPPED if _LIMIT_REACHED in reason else reason)
        return self.result(Outcome.UNAVAILABLE, f"the run ended as {state.name}: {reason}")

    def _tell_progress(self, server: Server, flow_run: FlowRun) -> None:
        def once(message: str) -> None:
            if message not in self.messages:
                self.messages.add(message)
                server.say(f"{self.task}: {message}")

        if flow_run.state is not None:
            once(flow_run.state.name or flow_run.state.type.value)
        if flow_run.state is None or not flow_run.state.is_running():
            return
        this_run = FlowRunFilter(id=FlowRunFilterId(any_=[self.id]))
        by_start = TaskRunSort.EXPECTED_START_TIME_ASC
        for task_run in server.ask(lambda client: client.read_task_runs(flow_run_filter=this_run, sort=by_start)):
            once(task_run.name)
        if self.mlflow is None:
            self.mlflow = server.ask(lambda client: mlflow_link(client, self.id))
            if self.mlflow:
                once(self.mlflow)


def start(server: Server, task: str, deployment: str, *, force: bool, dry_run: bool) -> Run | LifecycleResult:
    """Start a run of a task's deployment; a result where there is none, or the server refuses. Asked for twice it is one run."""
    name = deployment if "/" in deployment else f"{FLOW}/{deployment}"
    # Only what differs from the deployment's own parameters: one that was made by an older release knows no other.
    parameters: dict[str, Any] = {key: True for key, value in {"force": force, "dry_run": dry_run}.items() if value}
    key = str(uuid4())
    try:
        target = server.ask(lambda client: client.read_deployment_by_name(name))
        flow_run = server.ask(
            lambda client: client.create_flow_run_from_deployment(target.id, parameters=parameters, idempotency_key=key)
        )
    except ObjectNotFound:
        what = f"the Prefect server has no deployment `{name}`"
        error = InvalidInput(what, where=address(), do="make it with `softprompt deploy`")
    except InvalidInput as refused:
        error = refused
    else:
        run = Run(task, flow_run.id, dry_run)
        server.say(f"{task}: started {flow_run.name}{run.url_suffix}")
        return run
    return LifecycleResult(task=task, outcome=error.outcome, reason=str(error), dry_run=dry_run)
