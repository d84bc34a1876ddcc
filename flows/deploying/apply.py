"""Make a Prefect server match the desired state, changing only what differs. Doing it twice changes nothing the second time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.utilities.callables import parameter_schema

from flows.deploying import automations, deployments, work_pool
from flows.deploying.desired import Change, desired_state
from flows.deploying.environment import Environment
from flows.lifecycle import lifecycle


def deploy(
    name: str,
    environment: Environment,
    template: dict[str, Any] | None,
    targets: Sequence[Path],
    *,
    root: Path,
    dry_run: bool = False,
) -> list[Change]:
    """Create, update and remove until the server matches specs and environment.

    Everything is checked before the first change. After an interruption the same call goes on from there.

    Args:
        name: the environment's name.
        template: the work pool's job template; None for Prefect's own.
        targets: spec files and folders; none: the environment's `specs`.
        root: the folder that the workers' working directory stands for.
        dry_run: change nothing, only return what would be done.

    Raises:
        InvalidInput: a bad spec, a name that is taken, or a work pool of another type.
    """
    schema = parameter_schema(lifecycle)
    others = [parameter for parameter in schema.properties if parameter != "spec"]
    desired = desired_state(name, environment, targets, root=root, lifecycle_parameters=others)
    with get_client(sync_client=True) as client:
        existing = deployments.existing(client)
        owned = deployments.check_names(name, desired, existing)
        changes = [work_pool.apply(client, environment.work_pool, template, dry_run)]
        changes += deployments.apply(client, desired, owned, schema.model_dump(), dry_run)
        changes += automations.apply(client, name, environment.heartbeat_seconds, dry_run)
    return changes
