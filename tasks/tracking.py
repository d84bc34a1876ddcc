"""Everything that is written to the MLflow run, always by its explicit id."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from softprompt_core import registry
from softprompt_core.errors import Outcome
from softprompt_core.spec import PromptSpec
from softprompt_core.stages import gate_report, record, reporting
from softprompt_core.stages.evaluation import Evidence
from softprompt_core.stages.inputs import Inputs
from softprompt_core.stages.monitoring import log_profile
from softprompt_core.stages.promotion import judge
from softprompt_core.stages.training import Trained, data_report


@task(name="open run", cache_policy=NO_CACHE, task_run_name="open run: {spec.name}")
def open_run(spec: PromptSpec, inputs: Inputs, prefect_run: str | None) -> tuple[str, str]:
    """Open the MLflow run and log settings and data report; returns (experiment id, run id)."""
    client = record.client()
    experiment, run_id = reporting.open_run(client, spec, inputs, prefect_run)
    reporting.log_data(client, run_id, data_report(spec, inputs))
    reporting.log_rows(client, run_id, inputs)
    log_profile(client, run_id, spec, inputs)
    return experiment, run_id


@task(name="log training", cache_policy=NO_CACHE, task_run_name="log training: {spec.name}")
def log_training(spec: PromptSpec, experiment: str, run_id: str, trained: list[Trained], chosen: Trained) -> None:
    """The chosen seed's curve on the lifecycle's run; with several seeds, a child run each."""
    client = record.client()
    reporting.log_training(client, run_id, chosen, spec.is_classification)
    if len(trained) > 1:
        for one in trained:
            child = registry.start_run(
                client, experiment, f"seed {one.seed}", {registry.tags.TASK: spec.name}, parent_run_id=run_id
            )
            reporting.log_training(client, child, one, spec.is_classification)
            client.set_terminated(child)


@task(name="log evaluation", cache_policy=NO_CACHE, task_run_name="log evaluation: {spec.name}")
def log_evaluation(spec: PromptSpec, inputs: Inputs, run_id: str, evidence: str) -> None:
    found = Evidence.load(Path(evidence))
    reporting.log_evaluation(record.client(), run_id, inputs, found, judge(spec, found))


@task(name="gate report", cache_policy=NO_CACHE, task_run_name="gate report: {spec.name} version {version}")
def log_gate_report(
    spec: PromptSpec,
    inputs: Inputs,
    evidence: str,
    chosen: Trained,
    experiment: str,
    run_id: str,
    version: int,
    champion: int | None,
    prefect_url: str | None,
) -> None:
    """The page and figure that a reviewer reads; ``champion`` is the version that the evidence compares with."""
    found = Evidence.load(Path(evidence))
    gate_report.log_gate_report(
        record.client(),
        spec,
        inputs,
        found,
        judge(spec, found),
        chosen,
        experiment=experiment,
        run_id=run_id,
        version=version,
        champion=champion,
        prefect_url=prefect_url,
        notes=reporting.notes_on(found),
    )


@task(name="close run", cache_policy=NO_CACHE)
def close_run(run_id: str, outcome: Outcome, description: str) -> None:
    registry.finish(record.client(), run_id, outcome, description)
