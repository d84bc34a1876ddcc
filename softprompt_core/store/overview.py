"""Every task at once, from a handful of requests however many there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from softprompt_core.errors import InvalidInput
from softprompt_core.store import processes
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger.reconcile import TaskState, state_in
from softprompt_core.store.reading import PAGE_SIZE, StoredModel, StoredRun
from softprompt_core.store.tags import (
    HEALTH,
    HEALTH_AT,
    HEALTH_REASON,
    HEALTH_VERSION,
    KIND,
    LOCKS,
    OUTCOME,
    PROCESS,
    TASK,
)
from softprompt_core.store.versions import Version, list_versions

_NAMED = 5


@dataclass(frozen=True)
class HealthNote:
    """The last result of ``softprompt monitor`` about a task's champion. ``at`` is UTC, as written."""

    health: str
    reason: str
    version: str
    at: str

    def about(self, champion: int | None) -> str:
        """The result in a word, with the version that it is about when that is not the champion any more."""
        return self.health if self.version == str(champion) else f"{self.health} (version {self.version})"


@dataclass(frozen=True)
class UnfinishedRun:
    """A lifecycle's newest run that decided nothing: ``outcome`` is the outcome, ``failed``, ``killed`` or ``running``."""

    run_id: str
    experiment_id: str
    outcome: str
    at: datetime
    """When it ended; when it began, if it has not ended. UTC."""


@dataclass(frozen=True)
class TaskOverview:
    """One task as MLflow has it. ``state`` is None when ``ledger_error`` says why the ledger cannot be read."""

    name: str
    versions: Sequence[Version]
    state: TaskState | None
    health: HealthNote | None = None
    unfinished: UnfinishedRun | None = None
    ledger_error: str | None = None


def overview(store: Store) -> list[TaskOverview]:
    """All tasks by name. A request for each thousand of models, versions and experiments, and one for the runs of each thousand.

    Of runs that decided nothing the newest thousand of each thousand tasks are looked at.
    """
    models = {model.name: model for model in store.reader.models() if TASK in model.tags and model.name != LOCKS}
    versions: dict[str, list[Version]] = {}
    for version in list_versions(store):
        versions.setdefault(version.name, []).append(version)
    unfinished = _unfinished(store)
    names = sorted(models.keys() | unfinished.keys())
    return [_task(name, models.get(name), versions.get(name, ()), unfinished.get(name)) for name in names]


def foreign_models(store: Store) -> list[str]:
    """Names of registered models that this project did not make: no task can have them."""
    unknown = [model.name for model in store.reader.models() if TASK not in model.tags and model.name != LOCKS]
    ours = {version.name for version in list_versions(store)} if unknown else set()
    return [name for name in unknown if name not in ours]


def foreign_note(names: Sequence[str]) -> str | None:
    """``foreign_models`` in a sentence; None without any."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    listed = f"{', '.join(names[:_NAMED])}{more}"
    return f"registered models that are not of this project, so that no task can have their names: {listed}" if names else None


def health_notes(store: Store) -> dict[str, HealthNote]:
    """Task → last result of monitoring; tasks that were never monitored are left out."""
    return {model.name: note for model in store.reader.models() if (note := health_note(model.tags)) is not None}


def health_note(tags: Mapping[str, str]) -> HealthNote | None:
    """The note in a registered model's tags, if there is one."""
    if HEALTH not in tags:
        return None
    return HealthNote(tags[HEALTH], *(tags.get(key, "") for key in (HEALTH_REASON, HEALTH_VERSION, HEALTH_AT)))


def _task(name: str, model: StoredModel | None, versions: Sequence[Version], unfinished: UnfinishedRun | None) -> TaskOverview:
    note = health_note(model.tags) if model is not None else None
    try:
        return TaskOverview(name, versions, state_in(model), note, unfinished)
    except InvalidInput as error:  # one damaged ledger must not hide the other tasks
        return TaskOverview(name, versions, None, note, unfinished, f"{error.where}: {error.what}")


def _unfinished(store: Store) -> dict[str, UnfinishedRun]:
    """The newest lifecycle run of each task that neither finished nor was tried again since."""
    newest: dict[str, UnfinishedRun] = {}
    for experiments in store.reader.experiment_pages():
        for run in store.reader.runs(experiments, "!FINISHED", newest=PAGE_SIZE):
            tags = run.tags
            if TASK in tags and KIND not in tags and "mlflow.parentRunId" not in tags:
                newest.setdefault(tags[TASK], _unfinished_run(run))
    return newest


def _unfinished_run(run: StoredRun) -> UnfinishedRun:
    outcome = run.tags.get(OUTCOME) or run.status.lower()
    if run.is_running and processes.certainly_gone(run.tags.get(PROCESS, "")):
        outcome = "killed"
    return UnfinishedRun(run.run_id, run.experiment_id, outcome, run.end_time or run.start_time)
