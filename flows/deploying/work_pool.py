"""The work pool of an environment."""

from __future__ import annotations

import asyncio
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound
from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type

from flows.deploying.desired import Change
from flows.deploying.environment import WorkPool
from softprompt_core.errors import InvalidInput


def apply(client: SyncPrefectClient, desired: WorkPool, template: dict[str, Any] | None, dry_run: bool) -> Change:
    """Create the pool, or update its limit and, where one is given, its job template.

    Raises:
        InvalidInput: the pool is of another type, or there is no template for a new one.
    """
    try:
        current = client.read_work_pool(desired.name)
    except ObjectNotFound:
        return _create(client, desired, template, dry_run)
    if current.type != desired.type:
        raise InvalidInput(
            f"is of type {current.type}, not {desired.type}, and a pool's type cannot be changed",
            where=f"work pool {desired.name}",
            do="choose another name, or delete the pool with `prefect work-pool delete`",
        )
    update: dict[str, Any] = {}
    if current.concurrency_limit != desired.concurrency:
        update["concurrency_limit"] = desired.concurrency
    if template is not None and current.base_job_template != template:
        update["base_job_template"] = template
    if update and not dry_run:
        client.update_work_pool(desired.name, WorkPoolUpdate(**update))
    return Change("work pool", desired.name, "updated" if update else "unchanged", ", ".join(update))


def _create(client: SyncPrefectClient, desired: WorkPool, template: dict[str, Any] | None, dry_run: bool) -> Change:
    template = template or asyncio.run(get_default_base_job_template_for_infrastructure_type(desired.type))
    if template is None:
        raise InvalidInput(
            f"no worker of type `{desired.type}` is installed here, so its job template is unknown",
            where="work_pool.type",
            do=f"pip install prefect-{desired.type}, or name a `base_job_template` file",
        )
    if not dry_run:
        pool = WorkPoolCreate(
            name=desired.name,
            type=desired.type,
            base_job_template=template,
            concurrency_limit=desired.concurrency,
            description="Made by `softprompt deploy`.",
        )
        client.create_work_pool(pool)
    return Change("work pool", desired.name, "created", desired.type)
