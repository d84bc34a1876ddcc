"""What a reviewer finds in MLflow: the run with its metrics, tables and figures, and the words on run and version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from softprompt_core import registry, report
from softprompt_core.data import DataReport, load_task_data, row_hashes
from softprompt_core.errors import Outcome
from softprompt_core.evaluation import all_metrics, confusion, slice_metrics
from softprompt_core.fingerprint import fingerprint
from softprompt_core.gates import Decision
from softprompt_core.registry import tags
from softprompt_core.spec import PromptSpec
from softprompt_core.stages.evidence import DECISION_FILE, EVIDENCE_FILE, Evidence
from softprompt_core.stages.gate_report import PAGE, ROWS
from softprompt_core.stages.inputs import Inputs
from softprompt_core.stages.record import run_url, stores, version_url
from softprompt_core.stages.registration import lineage

if TYPE_CHECKING:
    from mlflow import MlflowClient


def open_run(client: MlflowClient, spec: PromptSpec, inputs: Inputs, prefect_run: str | None) -> tuple[str, str]:
    """Open the lifecycle's run and log its settings; returns (experiment id, run id)."""
    experiment = registry.experiment_id(client, spec.name, stores())
    run_id = registry.start_run(client, experiment, f"{spec.name}-{inputs.whole[:8]}", lineage(spec, inputs, None, prefect_run))
    log_settings(client, run_id, spec)
    return experiment, run_id


def log_settings(client: MlflowClient, run_id: str, spec: PromptSpec) -> None:
    """The spec as parameters and as a file."""
    import yaml

    registry.log_params(client, run_id, settings_of(spec))
    written = spec.model_dump(mode="json", exclude_none=True)
    registry.log_text(client, run_id, yaml.safe_dump(written, sort_keys=False, allow_unicode=True), "spec.yaml")


def settings_of(spec: PromptSpec) -> dict[str, Any]:
    """Dotted key → value of what decides a training."""
    written = spec.model_dump(mode="json", exclude_none=True)
    return {f"{part}.{key}": value for part in ("base_model", "prompt", "training") for key, value in written[part].items()}


def log_data(client: MlflowClient, run_id: str, found: DataReport) -> None:
    """The data report as text, JSON and figure."""
    registry.log_text(client, run_id, found.to_markdown(), "data/report.md")
    registry.log_json(client, run_id, found.to_json(), "data/report.json")
    registry.log_figure(client, run_id, report.data_overview(found.to_json()), "data/overview.png")


def log_rows(client: MlflowClient, run_id: str, inputs: Inputs) -> None:
    """Hashes of all rows: what a later lifecycle needs to say which rows came and went."""
    registry.log_json(client, run_id, row_hashes(load_task_data(inputs.workspace.data).splits), ROWS)


def log_evaluation(client: MlflowClient, run_id: str, inputs: Inputs, evidence: Evidence, decision: Decision) -> None:
    """Metrics of every scorer, per-example answers, confusion matrix, slices, and the gate report."""
    metrics: dict[str, float | None] = {}
    for name, predictions in evidence.scorers().items():
        prefix = "test" if name == "candidate" else name
        metrics |= {f"{prefix}/{metric}": value for metric, value in all_metrics(predictions).items()}
    for slice_name, values in slice_metrics(evidence.candidate).items():
        metrics |= {f"slice_{slice_name}/{metric}": value for metric, value in values.items()}
    registry.log_metrics(client, run_id, metrics)
    registry.log_table(client, run_id, examples_table(inputs, evidence), "evaluation/examples.json")
    log_decision(client, run_id, evidence, decision)
    headline = evidence.headline()
    groups = {name: {"all rows": values[headline]} for name, values in evidence.metrics().items() if headline in values}
    for name, values in evidence.slices().items():
        groups.setdefault(name, {}).update(values)
    rows = {"all rows": len(evidence.candidate), **{s: sum(flags) for s, flags in evidence.candidate.slices.items()}}
    registry.log_figure(client, run_id, report.comparison(groups, metric=headline, rows=rows), "evaluation/comparison.png")
    if evidence.candidate.labels:
        registry.log_figure(client, run_id, report.confusion_matrix(confusion(evidence.candidate)), "evaluation/confusion.png")


def log_decision(client: MlflowClient, run_id: str, evidence: Evidence, decision: Decision) -> None:
    """The evidence with its fingerprint, and what the gates said to it."""
    written = evidence.to_json()
    registry.log_json(client, run_id, written, EVIDENCE_FILE)
    client.set_tag(run_id, tags.EVIDENCE_FINGERPRINT, fingerprint(written))
    registry.log_json(client, run_id, decision.to_json(), DECISION_FILE)
    registry.log_text(client, run_id, decision.to_markdown(), "gates/report.md")


def examples_table(inputs: Inputs, evidence: Evidence) -> Any:
    """One row a test example: its text, and everyone's answer beside the gold one."""
    frame = evidence.candidate.to_frame()
    frame.insert(1, "input", [example.input for example in load_task_data(inputs.workspace.data).splits["test"]])
    for name, predictions in evidence.scorers().items():
        if name != "candidate":
            frame.insert(list(frame.columns).index("predicted") + 1, name, list(predictions.predicted))
    return frame


def headline_metrics(evidence: Evidence) -> tuple[str, ...]:
    return ("accuracy", "macro_f1", "loss", "ece") if evidence.candidate.labels else ("rougeL", "bleu", "exact_match", "loss")


def describe_run(
    spec: PromptSpec,
    inputs: Inputs,
    outcome: Outcome,
    reason: str,
    *,
    evidence: Evidence | None = None,
    decision: Decision | None = None,
    version: int | None = None,
    changes: Sequence[str] = (),
    notes: tuple[str, ...] = (),
    prefect: str | None = None,
) -> str:
    """The run's description: verdict first."""
    links = _lineage_lines(inputs)
    if version is not None:
        links = {"Version": f"[{spec.name} {version}]({version_url(spec.name, version)})", **links}
    if prefect:
        links["Prefect run"] = prefect
    if evidence is not None:
        notes = (*notes_on(evidence), *notes)
    return report.run_description(
        task=spec.name,
        outcome=outcome,
        reason=reason,
        decision=decision,
        metrics=evidence.metrics() if evidence else None,
        headline=headline_metrics(evidence) if evidence else (),
        slices=evidence.slices() if evidence else None,
        changes=changes,
        lineage=links,
        notes=notes,
    )


def describe_version(
    spec: PromptSpec,
    inputs: Inputs,
    evidence: Evidence,
    decision: Decision,
    experiment: str,
    run_id: str,
    *,
    changes: Sequence[str] = (),
    prefect: str | None = None,
) -> str:
    """The version's description: a plain sentence first, because MLflow's version list shows raw markdown."""
    run = run_url(experiment, run_id)
    links = {"Run": f"[{run_id[:8]}]({run}), [gate report]({run}/artifacts/{PAGE})", **_lineage_lines(inputs)}
    if prefect:
        links["Prefect run"] = prefect
    return report.version_description(
        task=spec.name,
        decision=decision,
        metrics=evidence.metrics(),
        headline=headline_metrics(evidence),
        slices=evidence.slices(),
        changes=changes,
        lineage=links,
        usage=usage(spec.name),
    )


def usage(name: str) -> str:
    """How a champion is loaded, as Python."""
    return f'import mlflow\nmodel = mlflow.pyfunc.load_model("models:/{name}@champion")\nmodel.predict(frame)'


def _lineage_lines(inputs: Inputs) -> dict[str, str]:
    return {"Base model": inputs.base.short, "Data": f"`{inputs.data[:12]}`", "All inputs": f"`{inputs.whole[:12]}`"}


def notes_on(evidence: Evidence) -> tuple[str, ...]:
    """What a reviewer should know beside the numbers."""
    found = [f"Best hard prompt on validation: `{evidence.hard_prompt!r}`"]
    if evidence.champion_problem:
        found.append(f"The champion could not be scored: {evidence.champion_problem}")
    if evidence.candidate.labels and len(set(evidence.candidate.predicted)) == 1:
        found.append(f"The candidate answers `{evidence.candidate.predicted[0]}` to every row: it has learned nothing.")
    return tuple(found)


def scores(evidence: Evidence) -> Mapping[str, float]:
    """Scorer → headline metric."""
    metric = evidence.headline()
    return {name: values[metric] for name, values in evidence.metrics().items() if metric in values}
