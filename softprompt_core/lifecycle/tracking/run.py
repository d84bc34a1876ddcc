"""The lifecycle's run in MLflow: opened, filled step by step, and closed with its outcome. Always by its id: MLflow's "active
run" belongs to one thread."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from softprompt_core.data import report_markdown, row_hashes
from softprompt_core.evaluation import confusion
from softprompt_core.evaluation.results import DECISION_FILE, EVIDENCE_FILE
from softprompt_core.fingerprint import fingerprint
from softprompt_core.gates import Assessment
from softprompt_core.lifecycle.assess import DATA_REPORT_FILE, ROWS_FILE
from softprompt_core.lifecycle.register import lineage, spec_yaml
from softprompt_core.lifecycle.resolve import ResolvedTask
from softprompt_core.lifecycle.tracking.flow_run import FlowRun
from softprompt_core.lifecycle.tracking.tracked_run import TrackedRun
from softprompt_core.report import figures
from softprompt_core.spec import PromptSpec
from softprompt_core.store import flushing, run_contents, runs, tags
from softprompt_core.store.connection import Store
from softprompt_core.store.metric_buffer import Ending

if TYPE_CHECKING:
    from softprompt_core.data import DataReport

PROFILE_FILE = "monitoring/profile.json"
EXAMPLES_FILE = "evaluation/examples.json"


def open_run(task: ResolvedTask, store: Store, flow_run: FlowRun | None = None) -> TrackedRun:
    """Open the lifecycle's run and log settings and data report."""
    from softprompt_core.base_model.loading import load_base
    from softprompt_core.lifecycle.train import data_report
    from softprompt_core.monitoring import make_profile

    experiment = runs.experiment_id(store, task.name)
    name = f"{task.name}-{task.fingerprints.all[:8]}"
    run_id = runs.start_run(store, experiment, name, lineage(task, flow_run=flow_run))
    run = TrackedRun(run_id, experiment, store.run_url(experiment, run_id))
    try:
        log_settings(store, run_id, task.spec)
        log_data(store, run_id, data_report(task))
        # What a later lifecycle needs to say which rows came and went.
        run_contents.log_json(store, run_id, row_hashes(task.data.splits), ROWS_FILE)
        # What monitoring compares later inputs with.
        texts = [example.input for example in task.data.splits["train"]]
        profile = make_profile(load_base(task.spec.base_model), texts)
        run_contents.log_json(store, run_id, profile.model_dump(mode="json"), PROFILE_FILE)
        return replace(run, seeds=open_seeds(task, store, run))
    except BaseException as error:
        close_run(task.name, store, run, runs.ending_of(error))
        raise


def open_seeds(task: ResolvedTask, store: Store, run: TrackedRun) -> dict[int, str]:
    """Seed → the run that shows its curve."""
    if len(task.seeds) == 1:
        return {task.seeds[0]: run.id}
    tag = {tags.TASK: task.name}
    return {seed: runs.start_run(store, run.experiment, f"seed {seed}", tag, parent_run_id=run.id) for seed in task.seeds}


def close_run(name: str, store: Store, run: TrackedRun, ending: Ending) -> None:
    """End the run and those of its seeds that are open still; what MLflow does not take now is kept for later."""
    for child in set(run.seeds.values()) - {run.id}:
        flushing.close(store, child, name, Ending(status=ending.status, tags={}))
    flushing.close(store, run.id, name, ending)


def log_settings(store: Store, run_id: str, spec: PromptSpec) -> None:
    """The spec as parameters and as a file."""
    run_contents.log_params(store, run_id, settings_of(spec))
    run_contents.log_text(store, run_id, spec_yaml(spec), "spec.yaml")


def settings_of(spec: PromptSpec) -> dict[str, Any]:
    """Dotted key → value of what decides a training."""
    values = spec.model_dump(mode="json", exclude_none=True)
    return {f"{part}.{key}": value for part in ("base_model", "prompt", "training") for key, value in values[part].items()}


def log_data(store: Store, run_id: str, data: DataReport) -> None:
    """The data report as text, JSON and figure."""
    run_contents.log_text(store, run_id, report_markdown(data), "data/report.md")
    run_contents.log_json(store, run_id, data.model_dump(mode="json"), DATA_REPORT_FILE)
    run_contents.log_figure(store, run_id, figures.data_overview(data.model_dump(mode="json")), "data/overview.png")


def log_evaluation(task: ResolvedTask, store: Store, run_id: str, assessment: Assessment) -> None:
    """Metrics of every scorer, slices, answers row by row, figures, and the decision with what it rests on."""
    metrics: dict[str, float | None] = {}
    for scorer, values in assessment.metrics.items():
        prefix = "test" if scorer == "candidate" else scorer
        metrics |= {f"{prefix}/{metric}": value for metric, value in values.items()}
    for name, values in assessment.slices["candidate"].items():
        metrics |= {f"slice_{name}/{metric}": value for metric, value in values.items()}
    run_contents.log_metrics(store, run_id, metrics)
    run_contents.log_table(store, run_id, _examples_table(task, assessment), EXAMPLES_FILE)
    log_decision(store, run_id, assessment)
    candidate = assessment.results.candidate
    run_contents.log_figure(store, run_id, figures.comparison(assessment), "evaluation/comparison.png")
    if candidate.labels:
        run_contents.log_figure(store, run_id, figures.confusion_matrix(confusion(candidate)), "evaluation/confusion.png")
    if assessment.compared_with is not None:
        store.client.set_tag(run_id, tags.COMPARED_WITH, str(assessment.compared_with))


def log_decision(store: Store, run_id: str, assessment: Assessment) -> None:
    """The evaluation results with their fingerprint, and what the gates said to them."""
    results, decision = assessment.results.model_dump(mode="json"), assessment.decision
    run_contents.log_json(store, run_id, results, EVIDENCE_FILE)
    store.client.set_tag(run_id, tags.EVIDENCE_FINGERPRINT, fingerprint(results))
    run_contents.log_json(store, run_id, decision.model_dump(mode="json"), DECISION_FILE)
    run_contents.log_text(store, run_id, decision.to_markdown(), "gates/report.md")


def _examples_table(task: ResolvedTask, assessment: Assessment) -> Any:
    """One row a test example: its text, and everyone's answer beside the gold one."""
    frame = assessment.results.candidate.to_frame()
    frame.insert(1, "input", [example.input for example in task.data.splits["test"]])
    for name, predictions in assessment.results.scorers().items():
        if name != "candidate":
            frame.insert(list(frame.columns).index("predicted") + 1, name, list(predictions.predicted))
    return frame
