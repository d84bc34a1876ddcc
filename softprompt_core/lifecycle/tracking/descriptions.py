"""The words on a run and on a version in MLflow: what a reviewer reads first."""

from __future__ import annotations

from softprompt_core.errors import Outcome
from softprompt_core.gates import Assessment
from softprompt_core.lifecycle.resolve import ResolvedTask
from softprompt_core.lifecycle.tracking.flow_run import FlowRun
from softprompt_core.lifecycle.tracking.gate_report import PAGE_FILE
from softprompt_core.lifecycle.tracking.tracked_run import TrackedRun
from softprompt_core.report.description import run_description, version_description
from softprompt_core.store.connection import Store
from softprompt_core.store.versions import Version


def describe_run(
    task: ResolvedTask,
    outcome: Outcome,
    reason: str,
    *,
    assessment: Assessment | None = None,
    version_link: str | None = None,
    flow_run: FlowRun | None = None,
) -> str:
    """Markdown for a lifecycle's run: the verdict first."""
    links = {"Version": version_link} if version_link else {}
    links |= lineage_lines(task, flow_run)
    return run_description(
        task=task.name,
        outcome=outcome,
        reason=reason,
        assessment=assessment,
        changes=assessment.change_lines if assessment else (),
        lineage=links,
        notes=notes_on(assessment) if assessment else (),
    )


def describe_version(task: ResolvedTask, assessment: Assessment, run: TrackedRun, flow_run: FlowRun | None = None) -> str:
    """Markdown for a version: a plain sentence first, because MLflow's version list shows raw markdown."""
    links = {"Run": f"[{run.id[:8]}]({run.url}), [gate report]({run.url}/artifacts/{PAGE_FILE})"}
    return version_description(
        task=task.name,
        assessment=assessment,
        changes=assessment.change_lines,
        lineage=links | lineage_lines(task, flow_run),
        usage=usage(task.name),
    )


def version_link(store: Store, version: Version) -> str:
    return f"[{version.name} {version.version}]({store.version_url(version.name, version.version)})"


def usage(name: str) -> str:
    """How a champion is loaded, as Python."""
    return f'import mlflow\nmodel = mlflow.pyfunc.load_model("models:/{name}@champion")\nmodel.predict(frame)'


def lineage_lines(task: ResolvedTask, flow_run: FlowRun | None = None) -> dict[str, str]:
    fingerprints = task.fingerprints
    lines = {
        "Base model": task.base.short,
        "Data": f"`{fingerprints.data[:12]}`",
        "All inputs": f"`{fingerprints.all[:12]}`",
    }
    return {**lines, "Prefect run": flow_run.markdown} if flow_run else lines


def notes_on(assessment: Assessment) -> tuple[str, ...]:
    """What a reviewer should know beside the numbers."""
    results, candidate = assessment.results, assessment.results.candidate
    notes = [f"Best hard prompt on validation: `{results.hard_prompt!r}`"]
    if results.champion_problem:
        notes.append(f"The champion could not be scored: {results.champion_problem}")
    if candidate.labels and len(set(candidate.predicted)) == 1:
        notes.append(f"The candidate answers `{candidate.predicted[0]}` to every row: it has learned nothing.")
    return tuple(notes)
