"""The gate report of one lifecycle: collected from the evidence and the champion's run, written as page and figure."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from softprompt_core import registry, report
from softprompt_core.data import DataChanges, DataReport, data_changes, load_task_data, row_hashes
from softprompt_core.evaluation import metric_value
from softprompt_core.gates import Decision
from softprompt_core.markdown import number
from softprompt_core.registry import tags
from softprompt_core.report import ChangedAnswers, GatePage
from softprompt_core.spec import PromptSpec
from softprompt_core.stages.evidence import Evidence
from softprompt_core.stages.inputs import Inputs
from softprompt_core.stages.record import run_url, version_url
from softprompt_core.stages.trained import Trained, curve, facts

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

PAGE = "gates/report.html"
ROWS = "data/rows.json"
DATA_REPORT = "data/report.json"
_VECTORS_SHOWN = 20


def log_gate_report(
    client: MlflowClient,
    spec: PromptSpec,
    inputs: Inputs,
    evidence: Evidence,
    decision: Decision,
    trained: Trained,
    *,
    experiment: str,
    run_id: str,
    version: int,
    champion: int | None,
    prefect_url: str | None,
    notes: tuple[str, ...] = (),
) -> None:
    """Write the page and the figure among the run's artifacts, and name the champion that the evidence compares with.

    Args:
        champion: the version that was champion when the gates decided.
        trained: the seed that became the candidate.
    """
    metric, reference = evidence.headline(), reference_name(evidence)
    scores = evidence.metrics()
    wanted = [
        name for name in ("accuracy", "macro_f1", "rougeL", "bleu", "exact_match", "loss", "ece") if name in scores["candidate"]
    ]
    data, note = since_champion(client, spec.name, inputs, champion)
    links = {"MLflow run": run_url(experiment, run_id), "Version": version_url(spec.name, version)}
    if champion is not None:
        links["Champion at the time"] = version_url(spec.name, champion)
    if prefect_url:
        links["Prefect run"] = prefect_url
    page = GatePage(
        task=spec.name,
        version=version,
        decision=decision,
        summary=_summary(evidence),
        metrics={name: {scorer: by[name] for scorer, by in scores.items() if name in by} for name in wanted},
        slices={
            name: {s: v for s, p in evidence.scorers().items() if math.isfinite(v := metric_value(p, metric, slice=name))}
            for name in evidence.candidate.slices
        },
        slice_rows={name: sum(flags) for name, flags in evidence.candidate.slices.items()},
        reference=reference.replace("_", " "),
        changed=changed_from_reference(inputs, evidence),
        comparison=comparison(spec, evidence),
        curve=curve_figure(trained, "accuracy" if spec.is_classification else "negative_loss"),
        seeds=_seeds(evidence),
        data=data,
        data_note=note,
        tokens=_tokens(spec, trained),
        notes=notes,
        links=links,
        facts={
            "Base model": inputs.base.short,
            "Data": inputs.data,
            "All inputs": inputs.whole,
            "Prompt": f"{spec.prompt.length} vectors, started from {spec.prompt.init}, seed {trained.seed}",
        },
    )
    title = f"{spec.name} version {version}: {decision.outcome.value.replace('_', ' ')}. {decision.verdict}"
    registry.log_text(client, run_id, report.gate_page(page), PAGE)
    registry.log_figure(client, run_id, comparison(spec, evidence, title), "gates/report.png")
    if champion is not None:
        client.set_tag(run_id, tags.COMPARED_WITH, str(champion))


def reference_name(evidence: Evidence) -> str:
    """Whom the candidate's answers are compared with: the champion, or the hard prompt where there is none to score."""
    return "champion" if "champion" in evidence.scorers() else "hard_prompt"


def changed_from_reference(inputs: Inputs, evidence: Evidence) -> ChangedAnswers:
    """Test rows that candidate and reference answered differently."""
    texts = {example.id: example.input for example in load_task_data(inputs.workspace.data).splits["test"]}
    return report.changed_answers(evidence.scorers()[reference_name(evidence)], evidence.candidate, texts)


def comparison(spec: PromptSpec, evidence: Evidence, title: str = "") -> Figure:
    """Everyone's headline metric and the candidate's advantage over the reference, with intervals and the gates' demand."""
    metric, reference = evidence.headline(), reference_name(evidence)
    demands = [
        gate.by if gate.by is not None else -(gate.margin or 0.0)
        for gate in spec.gates
        if gate.versus == reference and gate.metric == metric and gate.slice is None
    ]
    return report.gate_figure(
        evidence.scorers(), metric=metric, reference=reference, title=title, required=max(demands, default=None)
    )


def _summary(evidence: Evidence) -> str:
    """The candidate against the reference in one sentence."""
    metric, reference = evidence.headline(), reference_name(evidence)
    ahead = report.advantage(evidence.candidate, evidence.scorers()[reference], metric)
    scores = evidence.metrics()
    if ahead is None or metric not in scores["candidate"]:
        return ""
    name = reference.replace("_", " ")
    value, low, high = ahead
    said = f"{abs(value):.3g} {'better' if value > 0 else 'worse'}" if abs(value) > 1e-12 else "equal"
    return (
        f"Test {metric} {scores['candidate'][metric]:.4g}, {name} {scores[reference][metric]:.4g}:"
        f" {said} (95 % interval {low:+.3g} to {high:+.3g},"
        f" {len(evidence.candidate)} rows)."
    )


def since_champion(client: MlflowClient, name: str, inputs: Inputs, champion: int | None) -> tuple[DataChanges | None, str]:
    """What changed in the data since the champion was trained, or why that is not known."""
    if champion is None:
        return None, "There was no champion to compare with."
    found = registry.get(client, name, champion)
    if found.tags.get(tags.DATA_FINGERPRINT) == inputs.data:
        return None, f"Version {champion} was trained on the same data."
    before = registry.read_json(client, found.run_id, DATA_REPORT)
    try:
        report_before = DataReport.from_json(before or {})
    except ValueError:  # it is gone, or an older release of this library wrote it in another form
        return None, f"The data differ from those of version {champion}, whose run no longer tells what they were."
    data = load_task_data(inputs.workspace.data)
    hashes = registry.read_json(client, found.run_id, ROWS)
    return data_changes(report_before, data.report, hashes, row_hashes(data.splits)), f"Since version {champion}:"


def change_lines(client: MlflowClient, name: str, inputs: Inputs, evidence: Evidence, champion: int | None) -> list[str]:
    """The same in short, for descriptions."""
    against = f"Against {f'version {champion}' if champion is not None else 'the hard prompt'}"
    data, note = since_champion(client, name, inputs, champion)
    lines = [f"{against}: {changed_from_reference(inputs, evidence)}"]
    if data is not None:
        return [*lines, *(f"Data, {split}" for split in data.splits)]
    return lines if champion is None else [*lines, note]


def curve_figure(trained: Trained, metric: str) -> Figure:
    """The learning curve of one seed; ``metric`` names the validation metric."""
    return report.learning_curve(curve(trained), metric=metric, best_step=facts(trained)["best_step"])


def _seeds(evidence: Evidence) -> list[list[str]]:
    """The spread over seeds; nothing to say about a single one."""
    if len(evidence.seeds) < 2:
        return []
    rows = [
        [f"{s.seed}{' (candidate)' if s.chosen else ''}", number(s.validation), number(s.test), str(s.best_step), s.stopped]
        for s in evidence.seeds
    ]
    return [["Seed", "Validation", f"Test {evidence.headline()}", "Best step", "Ended"], *rows]


def _tokens(spec: PromptSpec, trained: Trained) -> list[tuple[str, list[str], float | None]]:
    from softprompt_core.base_model import load_base
    from softprompt_core.interpretation import nearest_tokens
    from softprompt_core.soft_prompt import SoftPrompt

    prompt = SoftPrompt.load(Path(trained.prompt))
    moved = facts(trained).get("drift", {}).get("cosine", [])
    near = nearest_tokens(load_base(spec.base_model), prompt.weights[:_VECTORS_SHOWN], 4)
    return [
        (str(place), [f"{token.text} {token.cosine:.2f}" for token in row], moved[place] if place < len(moved) else None)
        for place, row in enumerate(near)
    ]
