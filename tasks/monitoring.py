"""Check one champion: on new data, or on another base."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from softprompt_core.lifecycle.tracking.flow_run import FlowRun
from softprompt_core.operations.monitor import CheckOptions, HealthResult, check_health
from softprompt_core.operations.revalidate import Revalidation, revalidate
from softprompt_core.spec import BaseModelSpec, PromptSpec
from softprompt_core.spec.monitor import MonitorSpec
from softprompt_core.store.connection import Store


@task(name="check health", cache_policy=NO_CACHE, task_run_name="check health: {name}")
def check_champion(name: str, settings: MonitorSpec | None, changes: dict[str, Any], flow_run: FlowRun | None) -> HealthResult:
    return check_health(Store.connect(), name, CheckOptions(settings, changes), flow_run=flow_run)


@task(name="revalidate", cache_policy=NO_CACHE, task_run_name="revalidate: {name}")
def revalidate_champion(name: str, base: BaseModelSpec | None, spec: PromptSpec | None, flow_run: FlowRun | None) -> Revalidation:
    return revalidate(Store.connect(), name, base, spec, flow_run=flow_run)
