"""Promotion across environments: the very version of another store becomes a version here, and the gates here decide about it.

Nothing is trained. The order of writing: run with all evidence → model → version → decision. A process may be killed anywhere;
done again it goes on with what is there. A version whose registration broke off is never seen by anybody.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from softprompt_core import gates
from softprompt_core.decisions.reevaluate import Candidate, compare_with, log_again, rows_of
from softprompt_core.errors import InvalidInput, Outcome
from softprompt_core.evaluation.results import EvaluationResults
from softprompt_core.gates import Assessment, Policy
from softprompt_core.json_files import read_json
from softprompt_core.lifecycle.assess import ROWS_FILE
from softprompt_core.lifecycle.decide import decide
from softprompt_core.lifecycle.register import UNDECIDED
from softprompt_core.lifecycle.resolve import spec_fingerprint
from softprompt_core.lifecycle.result import LifecycleResult
from softprompt_core.lifecycle.tracking.descriptions import notes_on, usage, version_link
from softprompt_core.lifecycle.tracking.gate_report import comparison_figure
from softprompt_core.lifecycle.tracking.run import EXAMPLES_FILE, log_decision
from softprompt_core.report.description import run_description, version_description
from softprompt_core.serving import SPEC_FILE
from softprompt_core.spec import PromptSpec, load_spec
from softprompt_core.store import registration, run_contents, runs, tags, versions
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger import approval, reconcile
from softprompt_core.store.ledger.lock import decision_lock
from softprompt_core.store.ledger.recording import with_current_champion
from softprompt_core.store.ledger.standing import write_standing
from softprompt_core.store.versions import Version
from softprompt_core.transfer.fetch import store_id
from softprompt_core.transfer.snapshot import Snapshot

# What a store says about its own doings; all other tags of a version or a run are about the training, and go along.
_LOCAL = (
    tags.STATUS,
    tags.OUTCOME,
    tags.DECIDED_AT,
    tags.APPROVAL_EXPIRES,
    tags.WITHDRAWN,
    tags.PREFECT_RUN,
    tags.PROCESS,
    tags.COMPARED_WITH,
    tags.CONTENT_FINGERPRINT,
    tags.EVIDENCE_FINGERPRINT,
)
# Made anew here, because they are about the champion here; the originals are kept below `source/`.
_REMADE = ("gates/", "evaluation/evidence.json", "evaluation/comparison.png", "source/")


@dataclass(frozen=True)
class Order:
    """Who asks for the copy and why, and the profile that the version is from."""

    profile: str
    by: str
    reason: str


def copy(store: Store, snapshot: Snapshot, order: Order, spec: PromptSpec | None = None) -> LifecycleResult:
    """Register what was brought from another store, unless it is here, and let its gates compare it with the champion here.

    The answers that are stored are used if champion and candidate both gave theirs to the same rows: in the other environment,
    where the champion there was the one that is champion here, or each when it was assessed. Else both are scored again.

    Args:
        store: where the version is to be registered.
        spec: the task's spec as it is now; the version must have been made from an equal one. Its data are read if everyone must
            be scored again.

    Raises:
        InvalidInput: both stores are one; the version was made from another spec, or was rolled back here; the gates need data or
            a base that are not here. Nothing was registered.
        Unavailable: MLflow or the base model cannot be reached, or somebody else keeps deciding.
    """
    began = time.monotonic()
    versions.require_ours(store, snapshot.task)
    where = f"{snapshot.task} version {snapshot.version} of {order.profile}"
    if store_id(store.addresses) == snapshot.store_id:
        raise InvalidInput("is in the store that it would be copied to", where=where, do="name another profile with --from")
    own_spec = load_spec(snapshot.prompt / SPEC_FILE)
    if spec is not None and spec_fingerprint(spec) != snapshot.tags.get(tags.SPEC_FINGERPRINT):
        raise InvalidInput(
            "was made from another spec than the one that is named here",
            where=where,
            do="wait until this spec was trained and promoted there, or name the spec that was",
        )
    results = EvaluationResults.model_validate(read_json(snapshot.evidence))
    table, hashes = (_read_if_there(snapshot.artifacts / file) for file in (EXAMPLES_FILE, ROWS_FILE))
    rows = rows_of(results, table, hashes)
    candidate = Candidate(snapshot.task, where, snapshot.tags, snapshot.prompt, spec or own_spec, results, rows)
    result = with_current_champion(store, snapshot.task, _Copy(store, snapshot, order, candidate).attempt)
    return result.model_copy(update={"seconds": round(time.monotonic() - began, 1)})


def _read_if_there(file: Path) -> Any:
    return read_json(file) if file.exists() else None


class _Copy:
    """One version on its way into a store."""

    def __init__(self, store: Store, snapshot: Snapshot, order: Order, candidate: Candidate) -> None:
        self.store, self.snapshot, self.order, self.candidate = store, snapshot, order, candidate
        self.name, self.content = snapshot.task, snapshot.tags[tags.CONTENT_FINGERPRINT]

    def attempt(self) -> LifecycleResult:
        store, spec = self.store, self.candidate.spec
        champion = versions.by_alias(store, self.name, tags.CHAMPION)
        existing = self._existing()
        if (settled := self._settled_before(existing, champion)) is not None:
            return settled
        assessment = self._assess(champion)
        version = existing or self._register(assessment)
        store.client.update_registered_model(self.name, spec.description or f"Soft prompts of the task {self.name}.")
        if existing is not None and tags.OUTCOME in existing.tags:
            log_again(store, version.run_id, assessment.compared_with, assessment.decision, assessment.results)
        elif existing is not None:  # else registration has logged it, before the version became visible
            self._log(version.run_id, assessment)
        verdict = assessment.decision.verdict
        reason = f"{self.order.reason} (version {self.snapshot.version} of {self.order.profile}: {verdict.rstrip('.')})"
        decide(spec, store, version, assessment.decision, assessment.compared_with, by=self.order.by, reason=reason)
        self._describe(version, assessment)
        return self._result(version, assessment.decision.outcome, verdict, assessment)

    def _existing(self) -> Version | None:
        """The newest version here with the same files, from an earlier copy or one that broke off before a decision."""
        newest_first = versions.list_versions(self.store, self.name)
        return next((version for version in newest_first if version.tags.get(tags.CONTENT_FINGERPRINT) == self.content), None)

    def _settled_before(self, existing: Version | None, champion: Version | None) -> LifecycleResult | None:
        """The result where the version is here and there is nothing to decide about it."""
        if champion is not None and champion.tags.get(tags.CONTENT_FINGERPRINT) == self.content:
            self._close(champion, Outcome.PROMOTED)
            reason = f"version {champion.version} has these very files and is champion"
            return self._result(champion, Outcome.UNCHANGED, reason).model_copy(update={"stands_for": Outcome.PROMOTED})
        if existing is None:
            return None
        if tags.WITHDRAWN in existing.tags:
            raise InvalidInput(
                f"is version {existing.version} here, which was {existing.tags[tags.WITHDRAWN]}",
                where=self.candidate.where,
                do=f"softprompt registry promote {self.name} {existing.version}",
            )
        # What was decided about it against the champion that still stands would be decided again.
        entry = approval.decision_about(reconcile.task_state(self.store, self.name).entries, existing.version)
        outcome = existing.tags.get(tags.OUTCOME)
        if entry is None or outcome not in (Outcome.REJECTED.value, Outcome.AWAITING_APPROVAL.value):
            return None
        if existing.approval_expired() or entry.previous_champion != (champion.version if champion else None):
            return None
        self._close(existing, Outcome(outcome))
        return self._result(existing, Outcome(outcome), f"version {existing.version} is the same: {entry.reason}")

    def _assess(self, champion: Version | None) -> Assessment:
        results, spec = self.candidate.results, self.candidate.spec
        assert results is not None
        content = champion.tags.get(tags.CONTENT_FINGERPRINT) if champion else None
        answered = results.champion is not None and len(results.champion)
        # Else the champion there was the one that is champion here.
        if not (content and content == self.snapshot.compared_content and answered):
            number = champion.version if champion else None
            results = compare_with(self.store, self.candidate, number, self.snapshot.folder)
        assessment = gates.assess(results, Policy(spec.gates, spec.approval), {})
        return replace(assessment, compared_with=champion.version if champion else None)

    def _register(self, assessment: Assessment) -> Version:
        """The version in this store, with a run that holds all that the run there holds. One process at a time, so that two that
        are told the same do not register it twice."""
        store, snapshot = self.store, self.snapshot
        with decision_lock(store, f"copies of {self.name}") as lock:
            existing = self._existing()
            if existing is not None:
                return existing
            experiment = runs.experiment_id(store, self.name)
            run_id = runs.start_run(store, experiment, snapshot.run_name, self._tags(snapshot.run_tags))
            run_contents.log_params(store, run_id, snapshot.params)
            kept = {name: points for name, points in snapshot.metrics.items() if not name.startswith("champion/")}
            run_contents.log_points(store, run_id, kept)
            lock.heartbeat("files of the run")
            store.client.log_artifacts(run_id, str(self._arranged()))
            self._log(run_id, assessment)
            lock.heartbeat("version")
            return registration.register_copy(
                store,
                run_id=run_id,
                name=self.name,
                files=snapshot.files,
                description=UNDECIDED.format(task=self.name),
                tags=self._tags(snapshot.tags),
            )

    def _tags(self, given: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in given.items() if name.startswith("softprompt.") and name not in _LOCAL}
        if table := given.get("mlflow.loggedArtifacts"):
            kept["mlflow.loggedArtifacts"] = table  # what MLflow's pages show as a table
        return {
            **kept,
            tags.SOURCE: self.order.profile,
            tags.SOURCE_STORE: self.snapshot.store,
            tags.SOURCE_VERSION: str(self.snapshot.version),
            tags.SOURCE_RUN: self.snapshot.run_id,
            tags.SOURCE_URL: self.snapshot.url,
        }

    def _arranged(self) -> Path:
        """The run's files, with those that are made anew here below ``source/``."""
        folder, artifacts = self.snapshot.folder / "arranged", self.snapshot.artifacts
        for path in artifacts.rglob("*"):
            if path.is_file():
                name = path.relative_to(artifacts).as_posix()
                to = folder / "source" / name if name.startswith(_REMADE) else folder / name
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, to)
        return folder

    def _log(self, run_id: str, assessment: Assessment) -> None:
        store = self.store
        log_decision(store, run_id, assessment)
        figure = comparison_figure(self.candidate.spec, assessment)
        run_contents.log_figure(store, run_id, figure, "evaluation/comparison.png")
        if assessment.compared_with is not None:
            store.client.set_tag(run_id, tags.COMPARED_WITH, str(assessment.compared_with))
        scores = assessment.metrics.get("champion", {})
        run_contents.log_metrics(store, run_id, {f"champion/{name}": value for name, value in scores.items()})

    def _describe(self, version: Version, assessment: Assessment) -> None:
        """The words on version and run, after the decision; the run ends with it."""
        run = self._run_url(version)
        links = {"Run": f"[{version.run_id[:8]}]({run}), [gates]({run}/artifacts/gates/report.md)", **self._lineage()}
        words = version_description(task=self.name, assessment=assessment, lineage=links, usage=usage(self.name))
        ledger = reconcile.task_state(self.store, self.name).entries
        write_standing(self.store, self.name, version.version, ledger, words)
        decision = assessment.decision
        links = {"Version": version_link(self.store, version), **self._lineage()}
        described = run_description(
            task=self.name,
            outcome=decision.outcome,
            reason=decision.verdict,
            assessment=assessment,
            lineage=links,
            notes=notes_on(assessment),
        )
        runs.finish(self.store, version.run_id, decision.outcome, described)

    def _lineage(self) -> dict[str, str]:
        snapshot, order = self.snapshot, self.order
        source = f"[{order.profile}, version {snapshot.version}]({snapshot.url}) at `{snapshot.store}`, run `{snapshot.run_id}`"
        return {
            "Copied from": source,
            "By": f"{order.by}: {order.reason}",
            "Base model": f"{snapshot.tags.get(tags.BASE_ID)} (`{snapshot.tags.get(tags.BASE_FINGERPRINT, '')[:8]}`)",
            "Data": f"`{snapshot.tags.get(tags.DATA_FINGERPRINT, '')[:12]}`",
            "Files": f"`{self.content[:12]}`",
        }

    def _close(self, version: Version, outcome: Outcome) -> None:
        """End the run of a copy whose process died after the decision."""
        run = self.store.client.get_run(version.run_id)
        if tags.OUTCOME not in run.data.tags:
            runs.finish(self.store, version.run_id, outcome, version.description)

    def _run_url(self, version: Version) -> str:
        experiment = self.store.client.get_run(version.run_id).info.experiment_id
        return self.store.run_url(experiment, version.run_id)

    def _result(self, version: Version, outcome: Outcome, reason: str, assessment: Assessment | None = None) -> LifecycleResult:
        return LifecycleResult(
            task=version.name,
            outcome=outcome,
            reason=reason,
            version=version.version,
            run_id=version.run_id,
            run_url=self._run_url(version),
            metric=assessment.headline if assessment else None,
            scores=assessment.scores if assessment else {},
            size_bytes=versions.version_size_bytes(self.store, version.name, version.version),
            gates=tuple(assessment.decision.to_text().splitlines()[1:]) if assessment else (),
        )
