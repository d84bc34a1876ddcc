"""Register the prompt as a version of the task's model in MLflow."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from softprompt_core.spec import PromptSpec
from softprompt_core.stages import gate_report, record, reporting
from softprompt_core.stages.evidence import Evidence
from softprompt_core.stages.inputs import Inputs
from softprompt_core.stages.promotion import judge
from softprompt_core.stages.registration import register


@task(name="register", cache_policy=NO_CACHE, task_run_name="register: {spec.name}")
@record.patient
def register_version(
    spec: PromptSpec,
    inputs: Inputs,
    experiment: str,
    run_id: str,
    prompt: str,
    evidence: str,
    prefect_run: str | None,
    champion: int | None = None,
    prefect: str | None = None,
) -> int:
    """Returns the number of the new version. No alias moves.

    Args:
        champion: the version that the evidence compares with.
        prefect: the Prefect run as markdown, for the description.
    """
    found, client = Evidence.load(Path(evidence)), record.client()
    changes = gate_report.change_lines(client, spec.name, inputs, found, champion)
    description = reporting.describe_version(
        spec, inputs, found, judge(spec, found), experiment, run_id, changes=changes, prefect=prefect
    )
    return register(spec, inputs, client, run_id, Path(prompt), description, prefect_run).version
