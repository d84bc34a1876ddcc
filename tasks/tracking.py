"""Everything that is written to the MLflow run, always by its explicit id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from softprompt_core import registry
from softprompt_core.errors import Outcome
from softprompt_core.spec import PromptSpec
from softprompt_core.stages import curves, gate_report, record, reporting
from softprompt_core.stages.evidence import Evidence
from softprompt_core.stages.inputs import Inputs
from softprompt_core.stages.promotion import judge
from softprompt_core.stages.trained import Trained


@dataclass(frozen=True)
class OpenRun:
    """A lifecycle's run in MLflow. ``curves``: seed → the run that shows its curve, this one or a child."""

    experiment: str
    id: str
    curves: Mapping[int, str]


@task(name="open run", cache_policy=NO_CACHE, task_run_name="open run: {spec.name}")
def open_run(spec: PromptSpec, inputs: Inputs, prefect_run: str | None) -> OpenRun:
    """Open the MLflow run and log settings and data report."""
    from softprompt_core.stages.monitoring import log_profile
    from softprompt_core.stages.training import data_report

    client = record.client()
    experiment, run_id = reporting.open_run(client, spec, inputs, prefect_run)
    found = OpenRun(experiment, run_id, {})
    try:
        reporting.log_data(client, run_id, data_report(spec, inputs))
        reporting.log_rows(client, run_id, inputs)
        log_profile(client, run_id, spec, inputs)
        return replace(found, curves=curves.open_seeds(client, spec, experiment, run_id))
    except BaseException:
        close(spec, found, registry.FAILED)
        raise


@task(name="log training", cache_policy=NO_CACHE, task_run_name="log training: {spec.name}")
def log_training(spec: PromptSpec, run: OpenRun, trained: list[Trained], chosen: Trained) -> None:
    """The chosen seed's curve on the lifecycle's run; with several seeds, each one's on its own child run."""
    curves.log_seeds(record.client(), spec, run.id, run.curves, trained, chosen)


@task(name="log evaluation", cache_policy=NO_CACHE, task_run_name="log evaluation: {spec.name}")
@record.patient
def log_evaluation(spec: PromptSpec, inputs: Inputs, run_id: str, evidence: str) -> None:
    found = Evidence.load(Path(evidence))
    reporting.log_evaluation(record.client(), run_id, inputs, found, judge(spec, found))


@task(name="gate report", cache_policy=NO_CACHE, task_run_name="gate report: {spec.name} version {version}")
@record.patient
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
def close_run(spec: PromptSpec, run: OpenRun, outcome: Outcome, description: str) -> None:
    close(spec, run, registry.ending(outcome, description))


def close(spec: PromptSpec, run: OpenRun, how: registry.Ending) -> None:
    """End the run and those of its seeds that are open still; what MLflow does not take now is kept for later."""
    client, stores = record.client(), record.stores()
    for child in run.curves.values():
        if child != run.id:
            registry.close(client, stores, child, spec.name, registry.Ending(how.status, {}))
    registry.close(client, stores, run.id, spec.name, how)
