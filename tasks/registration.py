"""Register the prompt as a version of the task's model in MLflow."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from softprompt_core.spec import PromptSpec
from softprompt_core.stages import record, reporting
from softprompt_core.stages.evaluation import Evidence
from softprompt_core.stages.inputs import Inputs
from softprompt_core.stages.promotion import judge
from softprompt_core.stages.registration import register


@task(name="register", cache_policy=NO_CACHE, task_run_name="register: {spec.name}")
def register_version(
    spec: PromptSpec, inputs: Inputs, experiment: str, run_id: str, prompt: str, evidence: str, prefect_run: str | None
) -> int:
    """Returns the number of the new version. No alias moves."""
    found = Evidence.load(Path(evidence))
    description = reporting.describe_version(spec, inputs, found, judge(spec, found), experiment, run_id)
    return register(spec, inputs, record.client(), run_id, Path(prompt), description, prefect_run).version
