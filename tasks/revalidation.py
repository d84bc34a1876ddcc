"""Try one champion on another base."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from softprompt_core.spec import BaseModelSpec, PromptSpec
from softprompt_core.stages import record
from softprompt_core.stages.revalidation import Revalidation, revalidate


@task(name="revalidate", cache_policy=NO_CACHE, task_run_name="revalidate: {name}")
def revalidate_champion(name: str, base: BaseModelSpec | None, spec: PromptSpec | None, prefect_run: str | None) -> Revalidation:
    return revalidate(record.client(), name, base, spec, prefect_run=prefect_run)
