"""What a sweep leaves in MLflow: a run for the whole, one below it for each point, and below that one for each of several seeds.

Nothing is registered: a sweep answers a question, and the lifecycle makes versions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softprompt_core.errors import Outcome
from softprompt_core.fingerprint import file_digest, fingerprint, library_fingerprint
from softprompt_core.lifecycle.register import git_commit, lineage
from softprompt_core.lifecycle.tracking.curves import log_training
from softprompt_core.lifecycle.tracking.flow_run import FlowRun
from softprompt_core.lifecycle.tracking.gate_report import validation_metric
from softprompt_core.lifecycle.tracking.run import log_data, log_settings, open_seeds, settings_of
from softprompt_core.lifecycle.tracking.tracked_run import TrackedRun
from softprompt_core.lifecycle.trained import best_seed
from softprompt_core.markdown import markdown_table, number
from softprompt_core.operations.sweep.choice import PointResult, SweepResult, advice, in_order, mark
from softprompt_core.operations.sweep.points import SweepPoint, TrainedPoint, axes
from softprompt_core.report.sweep_figure import SweepDots, sweep_figure
from softprompt_core.spec import to_yaml
from softprompt_core.spec.grid import as_text, nested
from softprompt_core.store import run_contents, runs, tags
from softprompt_core.store.connection import Store

if TYPE_CHECKING:
    import pandas as pd

_TABLE_ROWS = 30
_FIXED = ("base_model", "prompt", "training")


def identity(points: Sequence[SweepPoint], champion: Path | None) -> str:
    """Equal for sweeps of equal points and starts. ``champion``: the prompt file that some start from."""
    start = file_digest(champion) if champion else None
    return fingerprint([sorted(point.task.fingerprints.training for point in points), start])


def finished_run(store: Store, task: str, sweep: str) -> TrackedRun | None:
    """The run of a sweep of the very same points that is in MLflow already."""
    experiment = runs.experiment_id(store, task)
    query = f"tags.`{tags.SWEEP}` = '{sweep}' and attributes.status = 'FINISHED'"
    newest = store.client.search_runs([experiment], query, max_results=1, order_by=["attributes.start_time DESC"])
    return _tracked(store, experiment, newest[0].info.run_id) if newest else None


def open_sweep(store: Store, points: Sequence[SweepPoint], sweep: str, flow_run: FlowRun | None) -> TrackedRun:
    """Open the sweep's run."""
    spec, grid = points[0].task.spec, axes(points)
    experiment = runs.experiment_id(store, spec.name)
    run_tags = {
        tags.TASK: spec.name,
        tags.KIND: tags.SWEEP_KIND,
        tags.SWEEP: sweep,
        tags.PREFECT_RUN: flow_run.id if flow_run else None,
        tags.LIBRARY_FINGERPRINT: library_fingerprint(),
        tags.GIT_COMMIT: git_commit(),
    }
    run = _tracked(store, experiment, runs.start_run(store, experiment, f"{spec.name}-sweep-{sweep[:8]}", run_tags))
    fixed = {key: value for key, value in settings_of(spec).items() if not _swept(key, grid)}
    swept = {f"grid.{key}": ", ".join(map(as_text, values)) for key, values in grid.items()}
    run_contents.log_params(store, run.id, {**swept, **fixed})
    from softprompt_core.lifecycle.train import data_report

    log_data(store, run.id, data_report(points[0].task))
    return run


def log_point(store: Store, sweep: TrackedRun, point: SweepPoint, trained: TrainedPoint, result: PointResult) -> None:
    """One point's run: settings and curves as a lifecycle's run has them, and what the sweep compares."""
    task, metric = point.task, validation_metric(point.task.spec)
    run_tags = {**lineage(task), tags.KIND: tags.SWEEP_POINT_KIND, tags.SCHEDULE: None}
    run_id = runs.start_run(store, sweep.experiment, point.name[:250], run_tags, parent_run_id=sweep.id)
    run = _tracked(store, sweep.experiment, run_id)
    log_settings(store, run.id, task.spec)
    others = {key: value for key, value in point.settings.items() if key.partition(".")[0] not in _FIXED}
    run_contents.log_params(store, run.id, {key: as_text(value) for key, value in others.items()})
    if not trained.seeds:
        runs.finish(store, run.id, Outcome.DIVERGED, f"{task.name}, {point.name}: diverged.\n\n{result.reason}")
        return
    run = replace(run, seeds=open_seeds(task, store, run))
    log_training(task, store, run, trained.seeds, best_seed(trained.seeds))
    compared = {f"sweep/{metric}": result.metric, "sweep/standard_error": result.error}
    run_contents.log_metrics(store, run.id, {**compared, "sweep/diverged_seeds": result.diverged_seeds})
    runs.end(store, run.id)


def close_sweep(store: Store, run: TrackedRun, result: SweepResult, points: Sequence[SweepPoint]) -> None:
    """Table, figure, description and the best values on the sweep's run; FINISHED, or FAILED when every point diverged."""
    run_contents.log_table(store, run.id, table(result), "sweep/points.json")
    dots = [
        SweepDots(point.settings, point.seeds, point.metric or 0.0, point.error, mark(result, index))
        for index, point in enumerate(result.points)
    ]
    run_contents.log_figure(store, run.id, sweep_figure(axes(points), dots, metric=result.metric), "sweep/points.png")
    counts: dict[str, float | None] = {"sweep/points": len(result.points)}
    counts["sweep/diverged_points"] = sum(not point.seeds for point in result.points)
    if result.best is None:
        run_contents.log_metrics(store, run.id, counts)
        runs.finish(store, run.id, Outcome.DIVERGED, describe(result))
        return
    top = result.points[result.best]
    run_contents.log_metrics(store, run.id, {**counts, f"sweep/{result.metric}": top.metric, "sweep/standard_error": top.error})
    run_contents.log_text(store, run.id, winning_yaml(result), "sweep/chosen.yaml")
    store.client.set_tag(run.id, tags.SWEEP_BEST, tags.shortened(top.name, tags.RUN_TAG_LIMIT))
    store.client.set_tag(run.id, "mlflow.note.content", tags.shortened(describe(result), tags.RUN_TAG_LIMIT))
    runs.end(store, run.id)


def winning_yaml(result: SweepResult) -> str:
    """The chosen point's settings as they stand in a spec."""
    assert result.chosen is not None
    return to_yaml(nested(result.points[result.chosen].settings))


def table(result: SweepResult) -> pd.DataFrame:
    """All points, the best first; one column a swept setting."""
    import pandas as pd

    rows = []
    for index in in_order(result):
        point = result.points[index]
        values = {key: as_text(value) for key, value in point.settings.items()}
        scores = {f"validation {result.metric}": point.metric, "standard error": point.error, "validation loss": point.loss}
        facts = {"seeds": ", ".join(map(number, point.seeds)), "diverged seeds": point.diverged_seeds, "steps": point.steps}
        rows.append({**values, **scores, **facts, "seconds": round(point.seconds, 1), "": mark(result, index)})
    return pd.DataFrame(rows)


def describe(result: SweepResult) -> str:
    """Markdown: a plain sentence, the advice, the table, and what a sweep is not."""
    first = f"{result.task}: sweep of {len(result.points)} points. {result.reason}"
    keys = list(result.points[0].settings)
    order = in_order(result)
    rows = [
        (
            *(as_text(point.settings[key]) for key in keys),
            number(point.metric),
            number(point.error),
            number(point.loss),
            mark(result, index) or ("diverged" if not point.seeds else ""),
        )
        for index, point in ((index, result.points[index]) for index in order[:_TABLE_ROWS])
    ]
    heads = (*keys, f"Validation {result.metric}", "Standard error", "Validation loss", "")
    cells = markdown_table(heads, rows, numbers=range(len(keys), len(keys) + 3))
    more = f"\nThe first {_TABLE_ROWS}; all are in `sweep/points.json`.\n" if len(order) > _TABLE_ROWS else ""
    parts = [first]
    if result.best is not None and result.frugal is not None:
        parts.append(f"**{advice(result.points, result.best, result.frugal, result.rows)}**")
    parts.append(cells + more)
    if result.chosen is not None:
        parts.append(f"Settings to take over:\n\n```yaml\n{winning_yaml(result)}```")
    note = f"Compared on {result.rows} validation rows; test rows played no part, and nothing was registered."
    return "\n\n".join([*parts, note]) + "\n"


def _swept(key: str, grid: Mapping[str, Sequence[Any]]) -> bool:
    return any(key == swept or key.startswith(f"{swept}.") or swept.startswith(f"{key}.") for swept in grid)


def _tracked(store: Store, experiment: str, run_id: str) -> TrackedRun:
    return TrackedRun(run_id, experiment, store.run_url(experiment, run_id))
