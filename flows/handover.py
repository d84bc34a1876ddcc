"""How a lifecycle's result passes through Prefect's API, from the flow to a command that waits for it on another machine.

The name and the message of the final state carry the outcome and the reason; an artifact of the flow run carries the rest.
Neither needs storage that both machines can read, as a flow's return value would.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
)
from prefect.client.schemas.objects import State
from prefect.client.schemas.sorting import ArtifactSort
from prefect.states import Completed, Failed

from softprompt_core import settings
from softprompt_core.errors import Outcome
from softprompt_core.stages.result import LifecycleResult

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

RESULT = "softprompt-result"
MLFLOW_RUN = "mlflow-run"
_DRY_RUN = "Dry run: "

_results: ContextVar[list[LifecycleResult]] = ContextVar("results")
_lost = False


def state_name(result: LifecycleResult) -> str:
    """``Promoted``, ``Awaiting approval``, … or ``Dry run: Promoted``."""
    assert isinstance(result.outcome, Outcome)  # a flow that ends has one
    return f"{_DRY_RUN if result.dry_run else ''}{result.outcome.state_name}"


def read_state_name(name: str | None) -> tuple[Outcome | None, bool]:
    """The outcome that a state's name tells, and whether it was a dry run; no outcome for names that are not ours."""
    dry = (name or "").startswith(_DRY_RUN)
    wanted = (name or "").removeprefix(_DRY_RUN)
    return next((outcome for outcome in Outcome if outcome.state_name == wanted), None), dry


def publish(result: LifecycleResult) -> None:
    """Attach the result to the flow run that this is called in."""
    table = [{"field": name, "value": value} for name, value in result.to_json().items()]
    _attach(lambda: create_table_artifact(table, key=RESULT, description=f"{result.task}: {result.words}"))


def show_link(key: str, link: str, words: str, description: str) -> None:
    """Attach a link to the flow run that this is called in."""
    _attach(lambda: create_link_artifact(link=link, key=key, link_text=words, description=description))


def show_markdown(key: str, text: str, description: str) -> None:
    """Attach a page to the flow run that this is called in."""
    _attach(lambda: create_markdown_artifact(text, key=key, description=description))


def await_server() -> None:
    """Before a flow ends: give a Prefect server that has stopped answering ``server_wait_s`` seconds to come back."""
    began = time.monotonic()
    while not _answers():
        if time.monotonic() - began > settings.current().server_wait_s:
            return
        time.sleep(1.0)


def is_away(error: BaseException) -> bool:
    """Whether an error is that of a Prefect server which does not answer."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500  # its database is away, or its disk full
    return isinstance(error, httpx.TransportError) or "Failed to reach API" in str(error)


class Ended(Exception):
    """What a flow has found out that ends as failed. Prefect raises a failed state's data on a worker, and prints that: this says
    the reason, where plain data would be a TypeError about it."""

    def __init__(self, reason: str, found: Any) -> None:
        super().__init__(reason, found)
        self.reason, self.found = reason, found

    def __str__(self) -> str:
        return self.reason


def final_state(name: str | None, reason: str, found: Any, *, failed: bool) -> State[Any]:
    """The state that a flow ends in, which carries what it ``found`` to whoever called it in this process (``found_in``)."""
    if failed:
        return Failed(name=name, message=reason, data=Ended(reason, found))
    return Completed(name=name, message=reason, data=found)


def found_in(state: State[Any]) -> Any:
    """What ``final_state`` was given; raises what a flow raised."""
    value: Any = state.result(raise_on_failure=False)
    if isinstance(value, Ended):
        return value.found
    if isinstance(value, BaseException):
        raise value
    return value


@contextmanager
def results() -> Iterator[list[LifecycleResult]]:
    """The results that ``keep`` is given in a ``with`` block: what a flow found out, if Prefect cannot be told how it ended."""
    found: list[LifecycleResult] = []
    token = _results.set(found)
    try:
        yield found
    finally:
        _results.reset(token)


def keep(found: Sequence[LifecycleResult]) -> None:
    """Keep results for whoever called the flow."""
    _results.get([]).extend(found)


def say_away(error: BaseException) -> None:
    """Tell that Prefect does not know how a flow ended."""
    global _lost
    _lost = True
    print(f"Prefect was not told how this ended: {type(error).__name__}: {error}", file=sys.stderr)


def leave_if_lost(code: int) -> None:
    """End the process at once if Prefect is away: its client would try for minutes to deliver each event of the run."""
    if _lost:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _attach(create: Callable[[], object]) -> None:
    # What is decided is in MLflow and stands without Prefect, so a failure is only told. Prefect's client would try for a minute.
    try:
        if _answers():
            create()
            return
        trouble = "its server does not answer"
    except Exception as error:
        trouble = f"{type(error).__name__}: {error}"
    print(f"a detail is missing in Prefect: {trouble}", file=sys.stderr)


def _answers() -> bool:
    """Whether Prefect's server does; one that a command starts for itself lives as long as the command."""
    address = settings.current().prefect_api_url
    try:
        return not address or httpx.get(f"{address.rstrip('/')}/health", timeout=8).is_success
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def published(client: SyncPrefectClient, flow_run: UUID) -> LifecycleResult | None:
    """What ``publish`` attached to a flow run; None if there is nothing, or nothing that this release can read."""
    data = _artifact(client, flow_run, RESULT)
    try:
        return LifecycleResult.from_json({row["field"]: row["value"] for row in json.loads(data)}) if data else None
    except (TypeError, ValueError, KeyError):
        return None


def mlflow_link(client: SyncPrefectClient, flow_run: UUID) -> str | None:
    """Address of the MLflow run, once the flow has opened it."""
    data = _artifact(client, flow_run, MLFLOW_RUN)
    return data[data.rfind("(") + 1 : -1] if data and data.endswith(")") else None


def _artifact(client: SyncPrefectClient, flow_run: UUID, key: str) -> str | None:
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run]), key=ArtifactFilterKey(any_=[key]))
    # The newest: a flow run that was retried has one of each try.
    found = client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC, limit=1)
    return str(found[0].data) if found and found[0].data is not None else None
