"""The lifecycle of one task as a Prefect flow: ``softprompt_core.lifecycle.run_task`` with each step as a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.final_states import final_state, report
from flows.late_runs import collapse_late_runs
from flows.notifying import notify
from flows.results import MLFLOW_RUN, current_flow_run, publish, show_link, show_markdown
from flows.servers.prefect_server import await_server
from flows.state_names import state_name
from softprompt_core.errors import Outcome
from softprompt_core.evaluation.results import EvaluationResults
from softprompt_core.gates import Assessment
from softprompt_core.lifecycle.champion import Champion
from softprompt_core.lifecycle.resolve import ResolvedTask
from softprompt_core.lifecycle.result import LifecycleResult
from softprompt_core.lifecycle.run import outcome_of, read_spec, run_task, task_name
from softprompt_core.lifecycle.steps import Steps
from softprompt_core.lifecycle.tracking.flow_run import FlowRun
from softprompt_core.lifecycle.tracking.tracked_run import TrackedRun
from softprompt_core.store.connection import Store
from tasks.lifecycle import prefect_steps
from tasks.ray_pool import Item, fan_out

FAILURES = (Outcome.INVALID, Outcome.DIVERGED, Outcome.UNAVAILABLE)


@flow(name="softprompt-lifecycle", validate_parameters=False, on_running=[collapse_late_runs])
def lifecycle(spec: dict[str, Any] | str, force: bool = False, dry_run: bool = False, ray: bool = False) -> State[Any]:
    """Bring one task up to date.

    Args:
        spec: a spec as plain data, or the path of a YAML file that the worker can read.
        force: run even if nothing has changed since the last decided version.
        dry_run: stop before anything is written to MLflow, and end in the outcome that it would have been.
        ray: run on the Ray cluster that the settings name, with several seeds on several workers.
    """
    result = (_run_on_ray if ray else run_with_tasks)(spec, force=force, dry_run=dry_run)
    report([result])
    await_server()
    publish(result)
    notify(result)
    return final_state(state_name(result), result.reason, result, failed=result.outcome in FAILURES)


def run_with_tasks(
    spec: Mapping[str, Any] | str, *, force: bool, dry_run: bool = False, spread_seeds: bool = False
) -> LifecycleResult:
    """The lifecycle in the flow that this is called in.

    Args:
        spread_seeds: train several seeds on several workers of the Ray cluster that this process is one of.
    """
    steps = _with_artifacts(prefect_steps(spread_seeds=spread_seeds))
    return run_task(spec, force=force, dry_run=dry_run, steps=steps, flow_run=current_flow_run())


def _with_artifacts(steps: Steps) -> Steps:
    """The same steps; the MLflow run and the gates' report are shown in Prefect's pages as soon as they are there."""

    def open_run(task: ResolvedTask, store: Store, flow_run: FlowRun | None) -> TrackedRun:
        run = steps.open_run(task, store, flow_run)
        show_link(MLFLOW_RUN, run.url, f"MLflow run of {task.name}", "The run with its evidence")
        return run

    def assess(task: ResolvedTask, results: EvaluationResults, store: Store, champion: Champion | None) -> Assessment:
        assessment = steps.assess(task, results, store, champion)
        show_markdown("gate-report", assessment.decision.to_markdown(), f"{task.name}: {assessment.decision.outcome.value}")
        return assessment

    return replace(steps, open_run=open_run, assess=assess)


def _run_on_ray(spec: Mapping[str, Any] | str, *, force: bool, dry_run: bool) -> LifecycleResult:
    """The lifecycle on a worker of the Ray cluster, as a task of this flow run."""
    name, run = task_name(spec), current_flow_run()
    try:
        parsed = read_spec(spec)  # paths in it are absolute from here on
        name = parsed.name
        item = Item(name, parsed.base_model.model_dump_json(), (parsed.model_dump(mode="json"), force, dry_run))
        (result,) = fan_out(_on_worker, [item])
    except Exception as error:
        result = error
    if isinstance(result, LifecycleResult):
        return result
    outcome, reason = outcome_of(result)
    url = run.url if run else None
    return LifecycleResult(task=name, outcome=outcome, reason=reason, prefect_url=url, dry_run=dry_run)


def _on_worker(spec: dict[str, Any], force: bool, dry_run: bool) -> LifecycleResult:
    return run_with_tasks(spec, force=force, dry_run=dry_run, spread_seeds=True)
