"""What a sweep leaves in MLflow: a run for the whole, one below it for each point, and below that one for each of several seeds.

Nothing is registered: a sweep answers a question, and the lifecycle makes versions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from softprompt_core import registry, report
from softprompt_core.errors import Outcome
from softprompt_core.fingerprint import file_digest, fingerprint, library_fingerprint
from softprompt_core.markdown import markdown_table, number
from softprompt_core.registry import tags
from softprompt_core.soft_prompt import FILE_NAME
from softprompt_core.spec import PromptSpec
from softprompt_core.spec.grid import GridPoint, nested, said
from softprompt_core.stages import curves, reporting
from softprompt_core.stages.inputs import Inputs
from softprompt_core.stages.record import stores
from softprompt_core.stages.registration import git_commit, lineage
from softprompt_core.stages.sweep_choice import PointResult, SweepResult, advice, in_order, mark
from softprompt_core.stages.sweeping import axes
from softprompt_core.stages.trained import Trained, best
from softprompt_core.stages.training import data_report

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

_TABLE_ROWS = 30
_FIXED = ("base_model", "prompt", "training")


def metric_name(spec: PromptSpec) -> str:
    return "accuracy" if spec.is_classification else "negative_loss"


def identity(inputs: Sequence[Inputs], champion: str | None) -> str:
    """Equal for sweeps of equal points and starts. ``champion``: folder of the version that some start from."""
    start = file_digest(Path(champion) / FILE_NAME) if champion else None
    return fingerprint([sorted(one.training for one in inputs), start])


def finished_run(client: MlflowClient, task: str, sweep: str) -> tuple[str, str] | None:
    """(experiment id, run id) of a sweep of the very same points that is in MLflow already."""
    experiment = registry.experiment_id(client, task, stores())
    wanted = f"tags.`{tags.SWEEP}` = '{sweep}' and attributes.status = 'FINISHED'"
    found = client.search_runs([experiment], wanted, max_results=1, order_by=["attributes.start_time DESC"])
    return (experiment, found[0].info.run_id) if found else None


def open_sweep(
    client: MlflowClient, points: Sequence[GridPoint], inputs: Sequence[Inputs], sweep: str, prefect_run: str | None
) -> tuple[str, str]:
    """Open the sweep's run; returns (experiment id, run id)."""
    spec, grid = points[0].spec, axes(points)
    experiment = registry.experiment_id(client, spec.name, stores())
    said_once = {tags.TASK: spec.name, tags.KIND: tags.SWEEP_KIND, tags.SWEEP: sweep, tags.PREFECT_RUN: prefect_run}
    made_from = {tags.LIBRARY_FINGERPRINT: library_fingerprint(), tags.GIT_COMMIT: git_commit()}
    run_id = registry.start_run(client, experiment, f"{spec.name}-sweep-{sweep[:8]}", {**said_once, **made_from})
    fixed = {key: value for key, value in reporting.settings_of(spec).items() if not _swept(key, grid)}
    swept = {f"grid.{key}": ", ".join(map(said, values)) for key, values in grid.items()}
    registry.log_params(client, run_id, {**swept, **fixed})
    reporting.log_data(client, run_id, data_report(spec, inputs[0]))
    return experiment, run_id


def log_point(
    client: MlflowClient,
    experiment: str,
    parent: str,
    point: GridPoint,
    inputs: Inputs,
    trained: Sequence[Trained],
    result: PointResult,
) -> None:
    """One point's run: settings and curves as a lifecycle's run has them, and what the sweep compares."""
    spec, metric = point.spec, metric_name(point.spec)
    made_from = {**lineage(spec, inputs), tags.KIND: tags.SWEEP_POINT_KIND, tags.SCHEDULE: None}
    run_id = registry.start_run(client, experiment, point.name[:250], made_from, parent_run_id=parent)
    reporting.log_settings(client, run_id, spec)
    others = {key: value for key, value in point.settings.items() if key.partition(".")[0] not in _FIXED}
    registry.log_params(client, run_id, {key: said(value) for key, value in others.items()})
    if not trained:
        registry.finish(client, run_id, Outcome.DIVERGED, f"{spec.name}, {point.name}: diverged.\n\n{result.reason}")
        return
    curves.log_seeds(client, spec, run_id, curves.open_seeds(client, spec, experiment, run_id), trained, best(trained))
    compared = {f"sweep/{metric}": result.metric, "sweep/standard_error": result.error}
    registry.log_metrics(client, run_id, {**compared, "sweep/diverged_seeds": result.diverged_seeds})
    client.set_terminated(run_id)


def close_sweep(client: MlflowClient, run_id: str, result: SweepResult, grid: Mapping[str, Sequence[Any]]) -> None:
    """Table, figure, description and the best values on the sweep's run; FINISHED, or FAILED when every point diverged."""
    registry.log_table(client, run_id, table(result), "sweep/points.json")
    dots = [
        report.SweepDots(point.settings, point.seeds, point.metric or 0.0, point.error, mark(result, place))
        for place, point in enumerate(result.points)
    ]
    registry.log_figure(client, run_id, report.sweep_figure(grid, dots, metric=result.metric), "sweep/points.png")
    counts: dict[str, float | None] = {"sweep/points": len(result.points)}
    counts["sweep/diverged_points"] = sum(not point.seeds for point in result.points)
    if result.best is None:
        registry.log_metrics(client, run_id, counts)
        registry.finish(client, run_id, Outcome.DIVERGED, describe(result))
        return
    top = result.points[result.best]
    registry.log_metrics(client, run_id, {**counts, f"sweep/{result.metric}": top.metric, "sweep/standard_error": top.error})
    registry.log_text(client, run_id, winning_yaml(result), "sweep/chosen.yaml")
    client.set_tag(run_id, tags.SWEEP_BEST, tags.shortened(top.name, tags.RUN_TAG_LIMIT))
    client.set_tag(run_id, "mlflow.note.content", tags.shortened(describe(result), tags.RUN_TAG_LIMIT))
    client.set_terminated(run_id)


def winning_yaml(result: SweepResult) -> str:
    """The chosen point's settings as they stand in a spec."""
    assert result.chosen is not None
    return yaml.safe_dump(nested(result.points[result.chosen].settings), sort_keys=False, allow_unicode=True)


def table(result: SweepResult) -> pd.DataFrame:
    """All points, the best first; one column a swept setting."""
    import pandas as pd

    rows = []
    for place in in_order(result):
        point = result.points[place]
        values = {key: said(value) for key, value in point.settings.items()}
        scores = {f"validation {result.metric}": point.metric, "standard error": point.error, "validation loss": point.loss}
        facts = {"seeds": ", ".join(map(number, point.seeds)), "diverged seeds": point.diverged_seeds, "steps": point.steps}
        rows.append({**values, **scores, **facts, "seconds": round(point.seconds, 1), "": mark(result, place)})
    return pd.DataFrame(rows)


def describe(result: SweepResult) -> str:
    """Markdown: a plain sentence, the advice, the table, and what a sweep is not."""
    first = f"{result.task}: sweep of {len(result.points)} points. {result.reason}"
    keys = list(result.points[0].settings)
    order = in_order(result)
    rows = [
        (
            *(said(result.points[place].settings[key]) for key in keys),
            number(result.points[place].metric),
            number(result.points[place].error),
            number(result.points[place].loss),
            mark(result, place) or ("diverged" if not result.points[place].seeds else ""),
        )
        for place in order[:_TABLE_ROWS]
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
