"""Read, validate and fingerprint a task's data and base."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from softprompt_core.spec import PromptSpec
from softprompt_core.stages.inputs import Inputs, gather


@task(name="prepare data", cache_policy=NO_CACHE, task_run_name="prepare data: {spec.name}")
def prepare_data(spec: PromptSpec) -> Inputs:
    # Never cached: whether anything has changed is exactly what this finds out.
    return gather(spec)
