"""How a lifecycle's result passes through Prefect's API, from the flow to a command that waits for it on another machine.

The name and the message of the final state carry the outcome and the reason; an artifact of the flow run carries the rest.
Neither needs storage that both machines can read, as a flow's return value would.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect import runtime
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort
from prefect.utilities.urls import url_for

from flows.servers.prefect_server import server_answers
from softprompt_core.lifecycle.result import LifecycleResult
from softprompt_core.lifecycle.tracking.flow_run import FlowRun

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

RESULT = "softprompt-result"
MLFLOW_RUN = "mlflow-run"


def current_flow_run() -> FlowRun | None:
    """The flow run that this is called in."""
    run_id = runtime.flow_run.get_id()
    return FlowRun(run_id, runtime.flow_run.get_name() or "", url_for("flow-run", obj_id=run_id)) if run_id else None


def publish(result: LifecycleResult) -> None:
    """Attach the result to the flow run that this is called in."""
    rows = [{"field": name, "value": value} for name, value in result.model_dump(mode="json").items()]
    show_table(RESULT, rows, f"{result.task}: {result.label}")


def show_link(key: str, link: str, link_text: str, description: str) -> None:
    """Attach a link to the flow run that this is called in."""
    _attach(lambda: create_link_artifact(link=link, key=key, link_text=link_text, description=description))


def show_markdown(key: str, text: str, description: str) -> None:
    """Attach a page to the flow run that this is called in."""
    _attach(lambda: create_markdown_artifact(text, key=key, description=description))


def show_table(key: str, rows: list[dict[str, Any]], description: str) -> None:
    """Attach a table to the flow run that this is called in."""
    _attach(lambda: create_table_artifact(rows, key=key, description=description))


def published(client: SyncPrefectClient, flow_run: UUID) -> LifecycleResult | None:
    """What ``publish`` attached to a flow run; None if there is nothing, or nothing that this release can read."""
    data = _artifact(client, flow_run, RESULT)
    try:
        return LifecycleResult.model_validate({row["field"]: row["value"] for row in json.loads(data)}) if data else None
    except (TypeError, ValueError, KeyError):
        return None


def mlflow_link(client: SyncPrefectClient, flow_run: UUID) -> str | None:
    """Address of the MLflow run, once the flow has opened it."""
    data = _artifact(client, flow_run, MLFLOW_RUN)
    return data[data.rfind("(") + 1 : -1] if data and data.endswith(")") else None


def _attach(create: Callable[[], object]) -> None:
    # What is decided is in MLflow and stands without Prefect, so a failure is only told. Prefect's client would try for a minute.
    try:
        if server_answers():
            create()
            return
        problem = "its server does not answer"
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    print(f"a detail is missing in Prefect: {problem}", file=sys.stderr)


def _artifact(client: SyncPrefectClient, flow_run: UUID, key: str) -> str | None:
    this_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run]), key=ArtifactFilterKey(any_=[key]))
    # The newest: a flow run that was retried has one of each try.
    artifacts = client.read_artifacts(artifact_filter=this_run, sort=ArtifactSort.CREATED_DESC, limit=1)
    return str(artifacts[0].data) if artifacts and artifacts[0].data is not None else None
