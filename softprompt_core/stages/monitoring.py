"""Look at a champion on fresh rows and write down how it is. Aliases, versions and the ledger stay as they are."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from softprompt_core import registry
from softprompt_core.base_model import load_base
from softprompt_core.data import DataReport, Example, FreshRows, load_fresh, load_task_data
from softprompt_core.errors import Health, InvalidInput, SoftpromptError
from softprompt_core.evaluation import Predictions, all_metrics
from softprompt_core.evaluation.scoring import Scorer
from softprompt_core.markdown import markdown_table
from softprompt_core.monitoring import Finding, InputProfile, Verdict, conclude, make_profile, quality, shifts
from softprompt_core.registry import Version, tags
from softprompt_core.serving import Predictor
from softprompt_core.spec import PromptSpec
from softprompt_core.spec.monitor import MonitorSpec
from softprompt_core.stages.comparing import stored_answers
from softprompt_core.stages.gate_report import DATA_REPORT
from softprompt_core.stages.inputs import Inputs
from softprompt_core.stages.record import run_url, stores

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

PROFILE = "monitoring/profile.json"
_EXAMPLES = 500


@dataclass(frozen=True)
class HealthResult:
    """How one champion is. ``exit_code`` is that of ``health``, or of the error that stopped the look."""

    task: str
    health: Health
    reason: str
    version: int | None = None
    rows: int = 0
    labelled: bool = False
    findings: Sequence[Mapping[str, Any]] = ()
    run_id: str | None = None
    run_url: str | None = None
    exit_code: int = field(default=0)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "health": self.health.value, "findings": [dict(finding) for finding in self.findings]}

    @classmethod
    def failed(cls, task: str, error: SoftpromptError) -> HealthResult:
        """One of several champions could not be looked at."""
        return cls(task, Health.UNKNOWN, str(error), exit_code=error.outcome.exit_code)


def log_profile(client: MlflowClient, run_id: str, spec: PromptSpec, inputs: Inputs) -> None:
    """Keep what later inputs are compared with."""
    texts = [example.input for example in load_task_data(inputs.workspace.data).splits["train"]]
    registry.log_json(client, run_id, make_profile(load_base(spec.base_model), texts).to_json(), PROFILE)


def check_health(
    client: MlflowClient,
    name: str,
    settings: MonitorSpec | None = None,
    changes: Mapping[str, Any] = MappingProxyType({}),
    *,
    frame: pd.DataFrame | None = None,
    prefect_run: str | None = None,
) -> HealthResult:
    """Score the champion on fresh rows, or compare their inputs with the training's, and record the verdict.

    The verdict goes to an MLflow run of its own in the task's experiment (tags, metrics, report) and to tags of the registered
    model. Nothing is trained or promoted.

    Args:
        settings: where the rows are and how sure to be; those of the champion's spec by default.
        changes: single settings in their place.
        frame: fresh rows from Python, in place of files.

    Raises:
        InvalidInput: no such task, no rows named, or rows that cannot be read.
        Unavailable: MLflow or the base cannot be reached.
    """
    champion = registry.by_alias(client, name, tags.CHAMPION)
    if champion is None:
        if not registry.list_versions(client, name):
            do = "`softprompt registry list` shows the tasks"
            raise InvalidInput("no version is registered under this name", where=name, do=do)
        result = HealthResult(name, Health.UNKNOWN, "There is no champion.")
        return replace(result, exit_code=result.health.exit_code)
    with tempfile.TemporaryDirectory() as scratch:
        predictor = Predictor.load(registry.download(client, name, champion.version, Path(scratch)))
    settings = _changed(settings or predictor.spec.monitor, changes)
    if frame is None and not settings.data:
        do = "name files with --data, or under `monitor.data` in the spec"
        raise InvalidInput("no fresh rows are named", where=name, do=do)
    fresh = load_fresh(predictor.spec, predictor.prompt.labels, settings.data, frame)
    answers = _answers(predictor, fresh)
    verdict = _verdict(client, champion, predictor, fresh, answers, settings)
    return _record(client, champion, verdict, fresh, answers, prefect_run)


def _changed(settings: MonitorSpec, changes: Mapping[str, Any]) -> MonitorSpec:
    try:
        return MonitorSpec.model_validate({**settings.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(first["msg"], where=f"monitor.{first['loc'][0]}", do="see docs/reference/spec.md") from None


def _answers(predictor: Predictor, fresh: FreshRows) -> Predictions | None:
    """The champion's answers. Without labels a class stands in for the right answer, and nothing that depends on it is used."""
    labels = predictor.prompt.labels
    if not fresh.examples or not (fresh.labelled or labels):
        return None
    examples: Sequence[Example] = fresh.examples
    if not fresh.labelled:
        examples = [replace(example, target=labels[0]) for example in examples]
    return Scorer(predictor.base, predictor.spec, examples, labels).soft(predictor.prompt, "champion")


def _verdict(
    client: MlflowClient,
    champion: Version,
    predictor: Predictor,
    fresh: FreshRows,
    answers: Predictions | None,
    settings: MonitorSpec,
) -> Verdict:
    promoted = stored_answers(client, champion)
    found: Finding | None = None
    if fresh.labelled and answers is not None:
        if promoted is None:
            metric = "accuracy" if answers.labels else "rougeL"
            found = Finding(metric, "unknown", f"version {champion.version}'s run no longer tells how good it was at promotion")
        else:
            found = quality(answers, promoted, margin=settings.margin, confidence=settings.confidence)
    profile = registry.read_json(client, champion.run_id, PROFILE)
    data = registry.read_json(client, champion.run_id, DATA_REPORT)
    trained_labels = DataReport.from_json(data).splits["train"].classes if data is not None else {}
    counts = {word: sum(e.target == word for e in fresh.examples) for word in predictor.prompt.labels}
    tests = shifts(
        InputProfile.from_json(profile) if profile is not None else None,
        make_profile(predictor.base, [example.input for example in fresh.examples]),
        labels=(trained_labels, counts) if fresh.labelled and trained_labels else None,
        answers=(promoted, answers) if promoted is not None and answers is not None else None,
        confidence=settings.confidence,
    )
    return conclude(found, tests, rows=len(fresh.examples), bad=len(fresh.bad), min_rows=settings.min_rows)


def _record(
    client: MlflowClient,
    champion: Version,
    verdict: Verdict,
    fresh: FreshRows,
    answers: Predictions | None,
    prefect_run: str | None,
) -> HealthResult:
    name, version, health = champion.name, champion.version, verdict.health
    experiment = registry.experiment_id(client, name, stores())
    run_id = registry.start_run(
        client,
        experiment,
        f"{name}-monitor-v{version}",
        {
            tags.TASK: name,
            tags.KIND: "monitor",
            tags.HEALTH: health.value,
            tags.MONITORED_VERSION: str(version),
            tags.PREFECT_RUN: prefect_run,
        },
    )
    result = HealthResult(
        task=name,
        health=health,
        reason=verdict.reason,
        version=version,
        rows=len(fresh.examples),
        labelled=fresh.labelled,
        findings=[finding.to_json() for finding in verdict.findings],
        run_id=run_id,
        run_url=run_url(experiment, run_id),
        exit_code=health.exit_code,
    )
    metrics: dict[str, float | None] = {"monitor/rows": len(fresh.examples), "monitor/bad_rows": len(fresh.bad)}
    if fresh.labelled and answers is not None:
        metrics |= {f"fresh/{metric}": value for metric, value in all_metrics(answers).items()}
        frame = answers.to_frame().drop(columns=[f"slice/{slice_name}" for slice_name in answers.slices])
        frame.insert(1, "input", [example.input for example in fresh.examples])
        wrong_first = frame.sort_values("correct", kind="stable").head(_EXAMPLES)
        registry.log_table(client, run_id, wrong_first, "monitoring/examples.json")
    metrics |= {
        f"monitor/{finding.what.replace(' ', '_')}_{number}": value
        for finding in verdict.findings
        for number, value in finding.numbers.items()
    }
    registry.log_metrics(client, run_id, metrics)
    registry.log_json(client, run_id, result.to_json(), "monitoring/health.json")
    registry.log_text(client, run_id, describe(result), "monitoring/report.md")
    client.set_tag(run_id, "mlflow.note.content", describe(result)[: tags.RUN_TAG_LIMIT])
    client.set_terminated(run_id, "FINISHED")
    said = {
        tags.HEALTH: health.value,
        tags.HEALTH_REASON: verdict.reason,
        tags.HEALTH_VERSION: str(version),
        tags.HEALTH_RUN: run_id,
        tags.HEALTH_AT: datetime.now(UTC).isoformat(timespec="seconds"),
    }
    for key, value in said.items():
        client.set_registered_model_tag(name, key, tags.shortened(value, tags.MODEL_TAG_LIMIT))
    return result


def describe(result: HealthResult) -> str:
    """Markdown: the verdict, then one line a test."""
    marks = {"ok": "✓", "worse": "✗", "shifted": "≠", "unknown": "?"}
    rows = [(marks[str(finding["status"])], str(finding["what"]), str(finding["reason"])) for finding in result.findings]
    kind = "labelled" if result.labelled else "unlabelled"
    first = f"Champion version {result.version} of {result.task} is {result.health.value} on {result.rows} fresh {kind} rows."
    table = markdown_table(("", "What", "Found"), rows) if rows else ""
    return f"{first}\n\n**{result.reason}**\n\n{table}".rstrip() + "\n"
