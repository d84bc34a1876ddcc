"""Make a Prefect server be as planned, touching only what differs. Doing it twice changes nothing the second time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import DeploymentSort
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema
from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type

from flows.deploying import automations
from flows.deploying.environment import Environment, WorkPool
from flows.deploying.wanted import OURS, Change, Plan, Wanted, environment_tag, plan
from flows.lifecycle import lifecycle
from softprompt_core import __version__
from softprompt_core.errors import InvalidInput

ENTRYPOINT = "flows.lifecycle.lifecycle"
"""As a module, not as a file: a worker needs the package, not a checkout, and annotations that are text can be resolved."""

_PAGE = 200  # the server's own limit
_SLUG = "spec"
T = TypeVar("T")


def deploy(
    name: str,
    environment: Environment,
    template: dict[str, Any] | None,
    targets: Sequence[Path],
    *,
    here: Path,
    dry_run: bool = False,
) -> list[Change]:
    """Create, update and remove until the server is as specs and environment say.

    Everything is checked before the first change. After a stop in the middle the same call goes on from there.

    Args:
        name: the environment's name.
        environment: its settings.
        template: the work pool's job template; None for Prefect's own.
        targets: spec files and folders; none: the environment's `specs`.
        here: the folder that the workers' working directory stands for.
        dry_run: only say what would be done.

    Raises:
        InvalidInput: a bad spec, a name that is taken, or a work pool of another type.
    """
    schema = parameter_schema(lifecycle)
    planned = plan(name, environment, targets, here=here, known=[key for key in schema.properties if key != "spec"])
    with get_client(sync_client=True) as client:
        existing = _deployments(client)
        _check_names(name, planned, existing)
        ours = {each.name: each for each in existing if _belongs(each, name)}
        changes = [_work_pool(client, environment.work_pool, template, dry_run)]
        flow = None if dry_run else client.create_flow(lifecycle)
        parameters = schema.model_dump()
        for wanted in planned.deployments:
            changes.append(_deployment(client, flow, wanted, parameters, ours.get(wanted.name)))
        names = {wanted.name for wanted in planned.deployments}
        gone = [each for each in ours.values() if each.name not in names and planned.covers(_spec_of(each))]
        changes += [_remove(client, each, dry_run) for each in gone]
        if any(change.kind == "deployment" and change.action == "created" for change in changes):
            existing = _deployments(client)  # again, for the ids of those made a moment ago
        changes += automations.apply(
            client,
            name,
            environment,
            planned.deployments,
            ids={each.name: each.id for each in existing if _belongs(each, name)},
            gone={each.id for each in gone},
            existing=_paged(lambda offset: client.read_automations(limit=_PAGE, offset=offset)),
            dry_run=dry_run,
        )
    return changes


def _deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    ask = FlowFilter.model_validate({"name": {"any_": [lifecycle.name]}})

    def page(offset: int) -> list[DeploymentResponse]:
        return client.read_deployments(flow_filter=ask, sort=DeploymentSort.NAME_ASC, limit=_PAGE, offset=offset)

    return list(_paged(page))


def _paged(page: Callable[[int], list[T]]) -> Iterator[T]:
    offset = 0
    while found := page(offset):
        yield from found
        offset += len(found)


def _belongs(deployment: DeploymentResponse, environment: str) -> bool:
    return {OURS, environment_tag(environment)} <= set(deployment.tags)


def _spec_of(deployment: DeploymentResponse) -> str:
    return str(deployment.parameters.get("spec", ""))


def _check_names(name: str, planned: Plan, existing: Sequence[DeploymentResponse]) -> None:
    taken = {each.name: each for each in existing if not _belongs(each, name)}
    for wanted in planned.deployments:
        if (other := taken.get(wanted.name)) is not None:
            prefix = environment_tag("")
            owner = next(
                (f"environment {tag.removeprefix(prefix)}" for tag in other.tags if tag.startswith(prefix)), "somebody else"
            )
            raise InvalidInput(
                f"the deployment {lifecycle.name}/{wanted.name} belongs to {owner}",
                where=wanted.spec,
                do=f"set for instance `deployment_name: '{{task}}-{name}'` in the environment file, or delete that one first",
            )


# -- work pool ------------------------------------------------------------------------------------------------------------


def _work_pool(client: SyncPrefectClient, wanted: WorkPool, template: dict[str, Any] | None, dry_run: bool) -> Change:
    try:
        found = client.read_work_pool(wanted.name)
    except ObjectNotFound:
        template = template or asyncio.run(get_default_base_job_template_for_infrastructure_type(wanted.type))
        if template is None:
            raise InvalidInput(
                f"no worker of type `{wanted.type}` is installed here, so its job template is unknown",
                where="work_pool.type",
                do=f"pip install prefect-{wanted.type}, or name a `base_job_template` file",
            ) from None
        if not dry_run:
            client.create_work_pool(
                WorkPoolCreate(
                    name=wanted.name,
                    type=wanted.type,
                    base_job_template=template,
                    concurrency_limit=wanted.concurrency,
                    description="Made by `softprompt deploy`.",
                )
            )
        return Change("work pool", wanted.name, "created", wanted.type)
    if found.type != wanted.type:
        raise InvalidInput(
            f"is of type {found.type}, not {wanted.type}, and a pool's type cannot be changed",
            where=f"work pool {wanted.name}",
            do="choose another name, or delete the pool with `prefect work-pool delete`",
        )
    update: dict[str, Any] = {}
    if found.concurrency_limit != wanted.concurrency:
        update["concurrency_limit"] = wanted.concurrency
    if template is not None and found.base_job_template != template:
        update["base_job_template"] = template
    if update and not dry_run:
        client.update_work_pool(wanted.name, WorkPoolUpdate(**update))
    return Change("work pool", wanted.name, "updated" if update else "unchanged", ", ".join(update))


# -- deployments ----------------------------------------------------------------------------------------------------------


def _deployment(
    client: SyncPrefectClient, flow: UUID | None, wanted: Wanted, schema: dict[str, Any], found: DeploymentResponse | None
) -> Change:
    """Without a flow's id it is a dry run."""
    there = _comparable(found) if found is not None else {}
    differs = [key for key, value in _comparable_wanted(wanted, schema).items() if key not in there or there[key] != value]
    when = f"{wanted.cron} {wanted.timezone}" if wanted.cron else "no schedule"
    if found is not None and any(not each.active for each in found.schedules):
        when += ", paused by hand"
    if found is not None and not differs:
        return Change("deployment", wanted.name, "unchanged", when)
    if flow is not None:
        client.create_deployment(  # an upsert; runs that are scheduled but not begun are made anew by the server
            flow,
            wanted.name,
            version=__version__,
            description=wanted.description,
            schedules=_schedules(wanted, found),
            # Overlapping runs collapse into the one that runs; flows/late_runs.py does it for those that are late.
            concurrency_limit=1,
            concurrency_options=ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
            parameters=wanted.parameters,
            work_pool_name=wanted.work_pool,
            tags=list(wanted.tags),
            entrypoint=ENTRYPOINT,
            parameter_openapi_schema=schema,
            enforce_parameter_schema=True,
            paused=found.paused if found else False,
            pull_steps=wanted.pull_steps,
            job_variables=wanted.job_variables,
        )
    if found is None:
        return Change("deployment", wanted.name, "created", when)
    return Change("deployment", wanted.name, "updated", f"{', '.join(differs)}; {when}")


def _remove(client: SyncPrefectClient, found: DeploymentResponse, dry_run: bool) -> Change:
    """Delete a deployment, but not under a run: Prefect could not free its place, and answers its last state with error 500."""
    why = f"{_spec_of(found)} no longer asks for it"
    active = {"deployment_id": {"any_": [found.id]}, "state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}
    busy = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(active), limit=1)
    if not busy:
        if not dry_run:
            client.delete_deployment(found.id)
        return Change("deployment", found.name, "removed", why)
    if not dry_run:
        for schedule in found.schedules:
            client.delete_deployment_schedule(found.id, schedule.id)
    return Change("deployment", found.name, "updated", f"no schedule; {why}; deploy again when run {busy[0].name} has ended")


def _schedules(wanted: Wanted, found: DeploymentResponse | None) -> list[DeploymentScheduleCreate]:
    """Whoever paused a schedule by hand wants it to stay so."""
    if wanted.cron is None:
        return []
    active = all(each.active for each in found.schedules) if found else True
    return [
        DeploymentScheduleCreate(schedule=CronSchedule(cron=wanted.cron, timezone=wanted.timezone), active=active, slug=_SLUG)
    ]


def _comparable_wanted(wanted: Wanted, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "schedule": [(wanted.cron, wanted.timezone)] if wanted.cron else [],
        "description": wanted.description,
        "tags": sorted(wanted.tags),
        "parameters": wanted.parameters,
        "work pool": wanted.work_pool,
        "job variables": wanted.job_variables,
        "working directory": wanted.pull_steps,
        "concurrency": (1, ConcurrencyLimitStrategy.CANCEL_NEW),
        "code": (ENTRYPOINT, __version__, schema, True),
    }


def _comparable(found: DeploymentResponse) -> dict[str, Any]:
    limit, options = found.global_concurrency_limit, found.concurrency_options
    crons = [each.schedule for each in found.schedules]
    return {
        "schedule": [(cron.cron, cron.timezone) if isinstance(cron, CronSchedule) else None for cron in crons],
        "description": found.description,
        "tags": sorted(found.tags),
        "parameters": found.parameters,
        "work pool": found.work_pool_name,
        "job variables": found.job_variables,
        "working directory": found.pull_steps,
        "concurrency": (limit.limit if limit else None, options.collision_strategy if options else None),
        "code": (found.entrypoint, found.version, found.parameter_openapi_schema, found.enforce_parameter_schema),
    }
