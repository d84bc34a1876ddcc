"""Go on with a version that an earlier run has registered and nobody has decided about: its process died, or MLflow stopped
answering. Another version of the same inputs would be its twin, and it would stay undecided for ever."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from softprompt_core.errors import InvalidInput
from softprompt_core.fingerprint import file_digest
from softprompt_core.lifecycle.resolve import ResolvedTask
from softprompt_core.lifecycle.tracking.flow_run import FlowRun
from softprompt_core.lifecycle.tracking.tracked_run import TrackedRun
from softprompt_core.lifecycle.trained import TrainedSeed
from softprompt_core.store import runs, tags, versions
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger import recording
from softprompt_core.store.ledger.entries import LIFECYCLE
from softprompt_core.store.ledger.lock import decision_lock
from softprompt_core.store.ledger.reconcile import reconciled, repair
from softprompt_core.store.versions import Version


@dataclass(frozen=True)
class Begun:
    """A lifecycle's run; and if an earlier process has come as far as that, the candidate and its version."""

    run: TrackedRun
    candidate: TrainedSeed | None = None
    version: Version | None = None


def settle_what_broke_off(store: Store, name: str) -> None:
    """Complete or void decisions about a task that a dead process left open, and end its runs. Else such a version would not
    count as decided, and would be made again."""
    if repair(store, name):
        runs.end_killed_runs(store, [runs.experiment_id(store, name)])


def left_undecided(store: Store, name: str) -> list[Version]:
    """A task's versions, newest first, that nobody will decide about: their run is over."""
    return [version for version in versions.undecided(store, name) if runs.has_ended(store, version.run_id)]


def adoptable(task: ResolvedTask, left: Sequence[Version]) -> list[Version]:
    """Those that were made from exactly this task's inputs."""
    return [version for version in left if version.tags.get(tags.FINGERPRINT) == task.fingerprints.all]


def adopt(
    task: ResolvedTask, store: Store, left: Sequence[Version], candidate: TrainedSeed, flow_run: FlowRun | None = None
) -> Begun | None:
    """Take over the newest version that holds the candidate's prompt, with its run, which is open again; None without one.

    Only one process can: to any other the run looks like one that somebody works on.
    """
    for version in adoptable(task, left):
        if _holds(store, version, candidate) and (run := _claimed(store, version, flow_run)) is not None:
            return Begun(run, candidate, version)
    return None


def withdraw_others(store: Store, left: Sequence[Version], decided: Version) -> None:
    """Record about all other versions that were left undecided that this one was decided about in their place."""
    for version in left:
        if version.version != decided.version and runs.has_ended(store, version.run_id):  # else it was taken over meanwhile
            reason = f"its run broke off before a decision; version {decided.version} was decided about in its place"
            recording.withdraw(store, version, by=LIFECYCLE, reason=reason)


def _holds(store: Store, version: Version, candidate: TrainedSeed) -> bool:
    from softprompt_core.soft_prompt import FILE_NAME

    with tempfile.TemporaryDirectory() as scratch:
        try:
            folder = versions.download(store, version.name, version.version, Path(scratch))
        except InvalidInput:  # its files were damaged since
            return False
        return file_digest(folder / FILE_NAME) == file_digest(candidate.prompt)


def _claimed(store: Store, version: Version, flow_run: FlowRun | None) -> TrackedRun | None:
    with decision_lock(store, version.name) as lock:
        reconciled(lock)  # a decision that broke off may be completed by it
        taken = tags.OUTCOME in versions.get(store, version.name, version.version).tags
        run = store.reader.run(version.run_id)
        if taken or run is None or not runs.has_ended(store, version.run_id):
            return None
        lock.heartbeat("run open again")
        runs.reopen(store, run, {tags.PREFECT_RUN: flow_run.id if flow_run else None})
    return TrackedRun(run.run_id, run.experiment_id, store.run_url(run.experiment_id, run.run_id))
