"""The gate report of one lifecycle among its run's artifacts: a page and a figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from softprompt_core.gates import Assessment
from softprompt_core.lifecycle.resolve import ResolvedTask
from softprompt_core.lifecycle.tracking.flow_run import FlowRun
from softprompt_core.lifecycle.tracking.tracked_run import TrackedRun
from softprompt_core.lifecycle.trained import TrainedSeed
from softprompt_core.report.figures import learning_curve, png
from softprompt_core.report.gate_figure import gate_figure
from softprompt_core.report.page import NearTokens, PageDetails, gate_page
from softprompt_core.spec import PromptSpec
from softprompt_core.store import run_contents
from softprompt_core.store.connection import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE_FILE = "gates/report.html"
_SHOWN_VECTORS = 20


@dataclass(frozen=True)
class Origin:
    """Where a report's candidate comes from: its run, its version, the seed that became it, the flow run."""

    run: TrackedRun
    version: int
    seed: TrainedSeed
    flow_run: FlowRun | None = None


def log_gate_report(
    task: ResolvedTask, store: Store, assessment: Assessment, origin: Origin, notes: tuple[str, ...] = ()
) -> None:
    """Write the page and the figure."""
    decision, prompt = assessment.decision, task.spec.prompt
    title = f"{task.name} version {origin.version}: {decision.outcome.value.replace('_', ' ')}. {decision.verdict}"
    figure = png(comparison_figure(task.spec, assessment, title))
    details = PageDetails(
        task=task.name,
        version=origin.version,
        comparison_png=figure,
        curve_png=png(curve_figure(origin.seed, validation_metric(task.spec))),
        tokens=_nearest_tokens(task, origin.seed),
        notes=notes,
        links=_links(task, store, assessment, origin),
        facts={
            "Base model": task.base.short,
            "Data": task.fingerprints.data,
            "All inputs": task.fingerprints.all,
            "Prompt": f"{prompt.length} vectors, started from {prompt.init}, seed {origin.seed.seed}",
        },
    )
    run_contents.log_text(store, origin.run.id, gate_page(assessment, details), PAGE_FILE)
    run_contents.log_bytes(store, origin.run.id, figure, "gates/report.png")


def comparison_figure(spec: PromptSpec, assessment: Assessment, title: str = "") -> Figure:
    """Everyone's headline metric and the candidate's advantage over the reference, with intervals and the gates' demand."""
    metric, reference = assessment.headline, assessment.reference
    demands = [
        gate.by if gate.by is not None else -(gate.margin or 0.0)
        for gate in spec.gates
        if gate.versus == reference and gate.metric == metric and gate.slice is None
    ]
    return gate_figure(assessment, title=title, required=max(demands, default=None))


def curve_figure(seed: TrainedSeed, metric: str) -> Figure:
    """The learning curve of one seed; ``metric`` names the validation metric."""
    record = seed.read_record()
    history = [{key: float("nan") if value is None else value for key, value in entry.items()} for entry in record["history"]]
    return learning_curve(history, metric=metric, best_step=record["best_step"])


def validation_metric(spec: PromptSpec) -> str:
    """What training is steered by."""
    return "accuracy" if spec.is_classification else "negative_loss"


def _links(task: ResolvedTask, store: Store, assessment: Assessment, origin: Origin) -> dict[str, str]:
    links = {"MLflow run": origin.run.url, "Version": store.version_url(task.name, origin.version)}
    if assessment.compared_with is not None:
        links["Champion at the time"] = store.version_url(task.name, assessment.compared_with)
    if origin.flow_run is not None and origin.flow_run.url:
        links["Prefect run"] = origin.flow_run.url
    return links


def _nearest_tokens(task: ResolvedTask, seed: TrainedSeed) -> list[NearTokens]:
    from softprompt_core.base_model.loading import load_base
    from softprompt_core.interpretation import nearest_tokens
    from softprompt_core.soft_prompt import SoftPrompt

    prompt = SoftPrompt.load(seed.prompt)
    moved = seed.read_record().get("drift", {}).get("cosine", [])
    nearest = nearest_tokens(load_base(task.spec.base_model), prompt.weights[:_SHOWN_VECTORS], 4)
    return [
        NearTokens(
            str(index), [f"{token.text} {token.cosine:.2f}" for token in row], moved[index] if index < len(moved) else None
        )
        for index, row in enumerate(nearest)
    ]
