"""Look at one champion."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from softprompt_core.spec.monitor import MonitorSpec
from softprompt_core.stages import record
from softprompt_core.stages.monitoring import HealthResult, check_health


@task(name="check health", cache_policy=NO_CACHE, task_run_name="check health: {name}")
def check_champion(name: str, settings: MonitorSpec | None, changes: dict[str, Any], prefect_run: str | None) -> HealthResult:
    return check_health(record.client(), name, settings, changes, prefect_run=prefect_run)
