"""The deployments of an environment: one a spec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import DeploymentSort

from flows.deploying.desired import OWNED, Change, DesiredDeployment, DesiredState, environment_tag
from flows.lifecycle import lifecycle
from softprompt_core.errors import InvalidInput
from softprompt_core.version import __version__

ENTRYPOINT = "softprompt_worker.lifecycle"
"""As a module, not as a file: a worker needs the package, not a checkout, and annotations that are text can be resolved."""

PAGE = 200  # the server's own limit
_SLUG = "spec"


def existing(client: SyncPrefectClient) -> list[DeploymentResponse]:
    """All deployments of the lifecycle, whoever made them."""
    flow_filter = FlowFilter.model_validate({"name": {"any_": [lifecycle.name]}})
    deployments: list[DeploymentResponse] = []
    while page := client.read_deployments(
        flow_filter=flow_filter, sort=DeploymentSort.NAME_ASC, limit=PAGE, offset=len(deployments)
    ):
        deployments += page
    return deployments


def check_names(name: str, desired: DesiredState, existing: Sequence[DeploymentResponse]) -> dict[str, DeploymentResponse]:
    """The environment's own deployments by name. Raises InvalidInput if a desired name belongs to somebody else."""
    owned = {each.name: each for each in existing if {OWNED, environment_tag(name)} <= set(each.tags)}
    foreign = {each.name: each for each in existing if each.name not in owned}
    for deployment in desired.deployments:
        if deployment.name in foreign:
            prefix = environment_tag("")
            environments = [tag.removeprefix(prefix) for tag in foreign[deployment.name].tags if tag.startswith(prefix)]
            owner = f"environment {environments[0]}" if environments else "somebody else"
            raise InvalidInput(
                f"the deployment {lifecycle.name}/{deployment.name} belongs to {owner}",
                where=deployment.spec,
                do=f"set for instance `deployment_name: '{{task}}-{name}'` in the environment file, or delete that one first",
            )
    return owned


def apply(
    client: SyncPrefectClient,
    desired: DesiredState,
    owned: dict[str, DeploymentResponse],
    schema: dict[str, Any],
    dry_run: bool,
) -> list[Change]:
    """Create and update what is desired; remove what is owned, covered by this call, and no longer desired.

    Args:
        owned: the environment's deployments as they are, by name.
        schema: of the lifecycle's parameters.
    """
    flow = None if dry_run else client.create_flow(lifecycle)
    changes = [_apply(client, flow, each, schema, owned.get(each.name)) for each in desired.deployments]
    names = {each.name for each in desired.deployments}
    removed = [each for each in owned.values() if each.name not in names and desired.covers(_spec(each))]
    return changes + [_remove(client, each, dry_run) for each in removed]


def _apply(
    client: SyncPrefectClient,
    flow: UUID | None,
    desired: DesiredDeployment,
    schema: dict[str, Any],
    current: DeploymentResponse | None,
) -> Change:
    """Without a flow's id it is a dry run."""
    differing = _differing(desired, schema, current)
    schedule = f"{desired.cron} {desired.timezone}" if desired.cron else "no schedule"
    if current is not None and any(not each.active for each in current.schedules):
        schedule += ", paused by hand"
    if not differing:
        return Change("deployment", desired.name, "unchanged", schedule)
    if flow is not None:
        client.create_deployment(  # an upsert; runs that are scheduled but not begun are made anew by the server
            flow,
            desired.name,
            version=__version__,
            description=desired.description,
            schedules=_schedules(desired, current),
            # Overlapping runs collapse into the one that runs; flows/late_runs.py does it for those that are late.
            concurrency_limit=1,
            concurrency_options=ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
            parameters=desired.parameters,
            work_pool_name=desired.work_pool,
            tags=list(desired.tags),
            entrypoint=ENTRYPOINT,
            parameter_openapi_schema=schema,
            enforce_parameter_schema=True,
            paused=current.paused if current else False,
            pull_steps=desired.pull_steps,
            job_variables=desired.job_variables,
        )
    if current is None:
        return Change("deployment", desired.name, "created", schedule)
    return Change("deployment", desired.name, "updated", f"{', '.join(differing)}; {schedule}")


def _remove(client: SyncPrefectClient, deployment: DeploymentResponse, dry_run: bool) -> Change:
    """Delete a deployment, but not under a run: Prefect could not free its place, and answers its last state with error 500."""
    reason = f"{_spec(deployment)} no longer asks for it"
    active = {"deployment_id": {"any_": [deployment.id]}, "state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}
    active_runs = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(active), limit=1)
    if not active_runs:
        if not dry_run:
            client.delete_deployment(deployment.id)
        return Change("deployment", deployment.name, "removed", reason)
    if not dry_run:
        for schedule in deployment.schedules:
            client.delete_deployment_schedule(deployment.id, schedule.id)
    detail = f"no schedule; {reason}; deploy again when run {active_runs[0].name} has ended"
    return Change("deployment", deployment.name, "updated", detail)


def _schedules(desired: DesiredDeployment, current: DeploymentResponse | None) -> list[DeploymentScheduleCreate]:
    """A schedule that somebody paused by hand stays paused."""
    if desired.cron is None:
        return []
    schedule = CronSchedule(cron=desired.cron, timezone=desired.timezone)
    active = current is None or all(each.active for each in current.schedules)
    return [DeploymentScheduleCreate(schedule=schedule, active=active, slug=_SLUG)]


def _differing(desired: DesiredDeployment, schema: dict[str, Any], current: DeploymentResponse | None) -> list[str]:
    """What of a deployment is not as desired; everything of one that does not exist."""
    limit, options = (current.global_concurrency_limit, current.concurrency_options) if current else (None, None)
    crons = [each.schedule for each in current.schedules] if current else []
    pairs: dict[str, tuple[Any, Any]] = {
        "schedule": (
            [(desired.cron, desired.timezone)] if desired.cron else [],
            [(cron.cron, cron.timezone) if isinstance(cron, CronSchedule) else None for cron in crons],
        ),
        "description": (desired.description, current and current.description),
        "tags": (sorted(desired.tags), current and sorted(current.tags)),
        "parameters": (desired.parameters, current and current.parameters),
        "work pool": (desired.work_pool, current and current.work_pool_name),
        "job variables": (desired.job_variables, current and current.job_variables),
        "working directory": (desired.pull_steps, current and current.pull_steps),
        "concurrency": (
            (1, ConcurrencyLimitStrategy.CANCEL_NEW),
            (limit.limit if limit else None, options.collision_strategy if options else None),
        ),
        "code": (
            (ENTRYPOINT, __version__, schema, True),
            current and (current.entrypoint, current.version, current.parameter_openapi_schema, current.enforce_parameter_schema),
        ),
    }
    return [name for name, (one, other) in pairs.items() if one != other]


def _spec(deployment: DeploymentResponse) -> str:
    return str(deployment.parameters.get("spec", ""))
