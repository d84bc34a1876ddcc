"""How a lifecycle's result passes through Prefect's API, from the flow to a command that waits for it on another machine.

The name and the message of the final state carry the outcome and the reason; an artifact of the flow run carries the rest.
Neither needs storage that both machines can read, as a flow's return value would.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING
from uuid import UUID

from prefect.artifacts import create_table_artifact
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
)
from prefect.client.schemas.sorting import ArtifactSort

from softprompt_core.errors import Outcome
from softprompt_core.stages.result import LifecycleResult

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

RESULT = "softprompt-result"
MLFLOW_RUN = "mlflow-run"
_DRY_RUN = "Dry run: "


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
    """Attach the result to the flow run that this is called in. The outcome stands without it, so a failure is only told."""
    table = [{"field": name, "value": value} for name, value in result.to_json().items()]
    try:
        create_table_artifact(table, key=RESULT, description=f"{result.task}: {result.words}")
    except Exception as error:
        print(f"the details are missing in Prefect: {type(error).__name__}: {error}", file=sys.stderr)


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
