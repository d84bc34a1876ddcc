"""Assess evaluation results: gates, metrics, changed answers and changed data, computed once for all that follows."""

from __future__ import annotations

from dataclasses import replace

from softprompt_core import gates
from softprompt_core.data import DataChanges, DataReport, data_changes, row_hashes
from softprompt_core.evaluation.results import EvaluationResults
from softprompt_core.gates import Assessment, Policy
from softprompt_core.lifecycle.champion import Champion
from softprompt_core.lifecycle.resolve import ResolvedTask
from softprompt_core.store import run_contents, tags, versions
from softprompt_core.store.connection import Store

ROWS_FILE = "data/rows.json"
"""Hashes of all rows among a run's artifacts."""
DATA_REPORT_FILE = "data/report.json"


def assess(
    task: ResolvedTask, results: EvaluationResults, store: Store | None = None, champion: Champion | None = None
) -> Assessment:
    """Apply the task's gates to results and compute all that is reported beside the decision.

    Args:
        results: what everyone answered to the test rows.
        store: where the champion's run tells what its data were; without one nothing is said about changes of the data.
        champion: the version that the results compare with.
    """
    spec = task.spec
    inputs = {example.id: example.input for example in task.data.splits["test"]}
    assessment = gates.assess(results, Policy(spec.gates, spec.approval), inputs)
    if champion is None or store is None:
        return replace(assessment, data_note="There was no champion to compare with.")
    changes, note = _since_champion(task, store, champion.version)
    return replace(assessment, compared_with=champion.version, data_changes=changes, data_note=note)


def _since_champion(task: ResolvedTask, store: Store, champion: int) -> tuple[DataChanges | None, str]:
    """What changed in the data since the champion was trained, or why that is not known."""
    version = versions.get(store, task.name, champion)
    if version.tags.get(tags.DATA_FINGERPRINT) == task.fingerprints.data:
        return None, f"Version {champion} was trained on the same data."
    before = run_contents.read_json(store, version.run_id, DATA_REPORT_FILE)
    try:
        report_before = DataReport.model_validate(before or {})
    except ValueError:  # it is gone, or an older release of this library wrote it in another form
        return None, f"The data differ from those of version {champion}, whose run no longer tells what they were."
    hashes = run_contents.read_json(store, version.run_id, ROWS_FILE)
    changes = data_changes(report_before, task.data.report, hashes, row_hashes(task.data.splits))
    return changes, f"Since version {champion}:"
