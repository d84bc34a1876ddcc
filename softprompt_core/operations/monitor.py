"""Check a champion on new data and record how it is. Aliases, versions and the ledger stay as they are."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from softprompt_core.data import DataReport, Example, NewRows, load_new_rows
from softprompt_core.decisions.reevaluate import stored_results
from softprompt_core.errors import Health, InvalidInput
from softprompt_core.evaluation import Predictions, all_metrics
from softprompt_core.evaluation.scoring import Scorer
from softprompt_core.lifecycle.assess import DATA_REPORT_FILE
from softprompt_core.lifecycle.run import outcome_of
from softprompt_core.lifecycle.tracking.flow_run import FlowRun
from softprompt_core.lifecycle.tracking.run import PROFILE_FILE
from softprompt_core.markdown import markdown_table
from softprompt_core.monitoring import HealthCheck, InputProfile, Verdict, conclude, drift_checks, make_profile, quality_check
from softprompt_core.serving import Predictor
from softprompt_core.spec.monitor import MonitorSpec
from softprompt_core.store import run_contents, runs, tags, versions
from softprompt_core.store.connection import Store
from softprompt_core.store.versions import Version

if TYPE_CHECKING:
    import pandas as pd

MARKS = {"ok": "✓", "worse": "✗", "shifted": "≠", "unknown": "?"}
"""Status of a check → the sign before it."""
_EXAMPLES = 500


class HealthResult(BaseModel):
    """How one champion is. ``exit_code`` is that of ``health``, or of the error that stopped the check."""

    model_config = ConfigDict(frozen=True)

    task: str
    health: Health
    reason: str
    version: int | None = None
    rows: int = 0
    labelled: bool = False
    findings: tuple[HealthCheck, ...] = ()
    run_id: str | None = None
    run_url: str | None = None
    exit_code: int = 0

    @classmethod
    def failed(cls, task: str, error: Exception) -> HealthResult:
        """The result of a check that broke off."""
        outcome, reason = outcome_of(error)
        return cls(task=task, health=Health.UNKNOWN, reason=reason, exit_code=outcome.exit_code)


@dataclass(frozen=True)
class CheckOptions:
    """What a champion is checked with.

    Attributes:
        settings: where the rows are and how sure to be; those of the champion's spec by default.
        changes: single settings in their place.
        frame: new rows from Python, in place of files.
    """

    settings: MonitorSpec | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    frame: pd.DataFrame | None = None


@dataclass(frozen=True)
class _Checked:
    """A champion, new rows, and its answers to them, where it can give any."""

    champion: Version
    predictor: Predictor
    new: NewRows
    answers: Predictions | None


def check_health(
    store: Store, name: str, options: CheckOptions | None = None, *, flow_run: FlowRun | None = None
) -> HealthResult:
    """Score the champion on new rows, or compare their inputs with the training's, and record the verdict.

    The verdict goes to an MLflow run of its own in the task's experiment (tags, metrics, report) and to tags of the registered
    model. Nothing is trained or promoted.

    Raises:
        InvalidInput: no such task, no rows named, or rows that cannot be read.
        Unavailable: MLflow or the base cannot be reached.
    """
    options = options or CheckOptions()
    champion = versions.by_alias(store, name, tags.CHAMPION)
    if champion is None:
        if not versions.list_versions(store, name):
            problem = "no version is registered under this name"
            if name.endswith((".yaml", ".yml")):
                problem += ", and there is no such spec file"
            raise InvalidInput(problem, where=name, do="`softprompt registry list` shows the tasks")
        health = Health.UNKNOWN
        return HealthResult(task=name, health=health, reason="There is no champion.", exit_code=health.exit_code)
    with tempfile.TemporaryDirectory() as scratch:
        predictor = Predictor.load(versions.download(store, name, champion.version, Path(scratch)))
    settings = _changed(options.settings or predictor.spec.monitor, options.changes)
    if options.frame is None and not settings.data:
        do = "name files with --data, or under `monitor.data` in the spec"
        raise InvalidInput("no fresh rows are named", where=name, do=do)
    new = load_new_rows(predictor.spec, predictor.prompt.labels, settings.data, options.frame)
    checked = _Checked(champion, predictor, new, _answers(predictor, new))
    return _record(store, checked, _verdict(store, checked, settings), flow_run)


def _changed(settings: MonitorSpec, changes: Mapping[str, Any]) -> MonitorSpec:
    try:
        return MonitorSpec.model_validate({**settings.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(first["msg"], where=f"monitor.{first['loc'][0]}", do="see docs/reference/spec.md") from None


def _answers(predictor: Predictor, new: NewRows) -> Predictions | None:
    """The champion's answers. Without labels a class stands in for the right answer, and nothing that depends on it is used."""
    labels = predictor.prompt.labels
    if not new.examples or not (new.labelled or labels):
        return None
    examples: Sequence[Example] = new.examples
    if not new.labelled:
        examples = [replace(example, target=labels[0]) for example in examples]
    return Scorer(predictor.base, predictor.spec, examples, labels).soft(predictor.prompt, "champion")


def _verdict(store: Store, checked: _Checked, settings: MonitorSpec) -> Verdict:
    champion, predictor, new, answers = checked.champion, checked.predictor, checked.new, checked.answers
    stored = stored_results(store, champion)
    promoted = stored.candidate if stored else None
    quality: HealthCheck | None = None
    if new.labelled and answers is not None:
        if promoted is None:
            metric = "accuracy" if answers.labels else "rougeL"
            reason = f"version {champion.version}'s run no longer tells how good it was at promotion"
            quality = HealthCheck(what=metric, status="unknown", reason=reason)
        else:
            quality = quality_check(answers, promoted, margin=settings.margin, confidence=settings.confidence)
    profile = run_contents.read_json(store, champion.run_id, PROFILE_FILE)
    report = run_contents.read_json(store, champion.run_id, DATA_REPORT_FILE)
    trained_labels = DataReport.model_validate(report).splits["train"].classes if report is not None else {}
    counts = {label: sum(example.target == label for example in new.examples) for label in predictor.prompt.labels}
    drift = drift_checks(
        InputProfile.model_validate(profile) if profile is not None else None,
        make_profile(predictor.base, [example.input for example in new.examples]),
        labels=(trained_labels, counts) if new.labelled and trained_labels else None,
        answers=(promoted, answers) if promoted is not None and answers is not None else None,
        confidence=settings.confidence,
    )
    return conclude(quality, drift, rows=len(new.examples), bad=len(new.bad), min_rows=settings.min_rows)


def _record(store: Store, checked: _Checked, verdict: Verdict, flow_run: FlowRun | None) -> HealthResult:
    new, health = checked.new, verdict.health
    name, version = checked.champion.name, checked.champion.version
    experiment = runs.experiment_id(store, name)
    run_tags = {
        tags.TASK: name,
        tags.KIND: "monitor",
        tags.HEALTH: health.value,
        tags.MONITORED_VERSION: str(version),
        tags.PREFECT_RUN: flow_run.id if flow_run else None,
    }
    run_id = runs.start_run(store, experiment, f"monitor v{version} {health.value}", run_tags)
    result = HealthResult(
        task=name,
        health=health,
        reason=verdict.reason,
        version=version,
        rows=len(new.examples),
        labelled=new.labelled,
        findings=verdict.checks,
        run_id=run_id,
        run_url=store.run_url(experiment, run_id),
        exit_code=health.exit_code,
    )
    _log_answers(store, run_id, checked)
    metrics: dict[str, float | None] = {"monitor/rows": len(new.examples), "monitor/bad_rows": len(new.bad)}
    metrics |= {
        f"monitor/{check.what.replace(' ', '_')}_{number}": value
        for check in verdict.checks
        for number, value in check.numbers.items()
    }
    run_contents.log_metrics(store, run_id, metrics)
    run_contents.log_json(store, run_id, result.model_dump(mode="json"), "monitoring/health.json")
    run_contents.log_text(store, run_id, describe(result), "monitoring/report.md")
    store.client.set_tag(run_id, "mlflow.note.content", describe(result)[: tags.RUN_TAG_LIMIT])
    runs.end(store, run_id)
    model_tags = {
        tags.HEALTH: health.value,
        tags.HEALTH_REASON: verdict.reason,
        tags.HEALTH_VERSION: str(version),
        tags.HEALTH_RUN: run_id,
        tags.HEALTH_AT: datetime.now(UTC).isoformat(timespec="seconds"),
    }
    for key, value in model_tags.items():
        store.client.set_registered_model_tag(name, key, tags.shortened(value, tags.MODEL_TAG_LIMIT))
    return result


def _log_answers(store: Store, run_id: str, checked: _Checked) -> None:
    """Metrics on labelled rows, and a table of the answers, the wrong ones first."""
    answers, new = checked.answers, checked.new
    if answers is None or not new.labelled:
        return
    run_contents.log_metrics(store, run_id, {f"fresh/{metric}": value for metric, value in all_metrics(answers).items()})
    frame = answers.to_frame().drop(columns=[f"slice/{name}" for name in answers.slices])
    frame.insert(1, "input", [example.input for example in new.examples])
    wrong_first = frame.sort_values("correct", kind="stable").head(_EXAMPLES)
    run_contents.log_table(store, run_id, wrong_first, "monitoring/examples.json")


def describe(result: HealthResult) -> str:
    """Markdown: the verdict, then one line a check."""
    rows = [(MARKS[check.status], check.what, check.reason) for check in result.findings]
    kind = "labelled" if result.labelled else "unlabelled"
    first = f"Champion version {result.version} of {result.task} is {result.health.value} on {result.rows} fresh {kind} rows."
    table = markdown_table(("", "What", "Found"), rows) if rows else ""
    return f"{first}\n\n**{result.reason}**\n\n{table}".rstrip() + "\n"
