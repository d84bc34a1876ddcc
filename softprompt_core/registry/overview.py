"""Every task at once, from a handful of requests however many there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from softprompt_core.errors import InvalidInput
from softprompt_core.registry import processes
from softprompt_core.registry.ledger import read
from softprompt_core.registry.recovery import Standing
from softprompt_core.registry.runs import experiment_pages
from softprompt_core.registry.tags import (
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
from softprompt_core.registry.versions import Version, list_versions

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import RegisteredModel

_PAGE = 1000


@dataclass(frozen=True)
class HealthNote:
    """What ``softprompt monitor`` last found out about a task's champion. ``at`` is UTC, as written."""

    health: str
    reason: str
    version: str
    at: str

    def about(self, champion: int | None) -> str:
        """In a word, and the version that it is about when that is not the champion any more."""
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
    """One task as MLflow has it. ``standing`` is None when ``trouble`` says why the ledger cannot be read."""

    name: str
    versions: Sequence[Version]
    standing: Standing | None
    health: HealthNote | None = None
    unfinished: UnfinishedRun | None = None
    trouble: str | None = None


def overview(client: MlflowClient) -> list[TaskOverview]:
    """All tasks by name. A request for each thousand of models, versions and experiments, and one for the runs of each thousand.

    Of runs that decided nothing the newest thousand of each thousand tasks are looked at.
    """
    models = {model.name: model for model in _models(client) if TASK in model.tags and model.name != LOCKS}
    versions: dict[str, list[Version]] = {}
    for version in list_versions(client):
        versions.setdefault(version.name, []).append(version)
    unfinished = _unfinished(client)
    names = sorted(models.keys() | unfinished.keys())
    return [_task(name, models.get(name), versions.get(name, ()), unfinished.get(name)) for name in names]


def health_notes(client: MlflowClient) -> dict[str, HealthNote]:
    """Task → what monitoring last said about it; tasks that nobody looked at are left out."""
    return {model.name: note for model in _models(client) if (note := health_note(model.tags)) is not None}


def health_note(tags: Mapping[str, str]) -> HealthNote | None:
    """The note in a registered model's tags, if there is one."""
    if HEALTH not in tags:
        return None
    return HealthNote(tags[HEALTH], *(tags.get(key, "") for key in (HEALTH_REASON, HEALTH_VERSION, HEALTH_AT)))


def _task(
    name: str, model: RegisteredModel | None, versions: Sequence[Version], unfinished: UnfinishedRun | None
) -> TaskOverview:
    if model is None:
        return TaskOverview(name, versions, Standing((), {}), unfinished=unfinished)
    note, standing, trouble = health_note(model.tags), None, None
    try:
        aliases = {alias: int(version) for alias, version in model.aliases.items()}
        standing = Standing(tuple(read(name, model.tags)), aliases)
    except InvalidInput as error:  # one damaged ledger must not hide the other tasks
        trouble = f"{error.where}: {error.what}"
    return TaskOverview(name, versions, standing, note, unfinished, trouble)


def _models(client: MlflowClient) -> Iterator[RegisteredModel]:
    return _pages(lambda token: client.search_registered_models(max_results=_PAGE, page_token=token))


def _unfinished(client: MlflowClient) -> dict[str, UnfinishedRun]:
    """The newest lifecycle run of each task that neither finished nor was tried again since."""
    newest: dict[str, UnfinishedRun] = {}
    for experiments in experiment_pages(client):
        runs = client.search_runs(
            experiments, "attributes.status != 'FINISHED'", max_results=_PAGE, order_by=["attributes.start_time DESC"]
        )
        for run in runs:
            tags = run.data.tags
            if TASK in tags and KIND not in tags and "mlflow.parentRunId" not in tags:
                newest.setdefault(tags[TASK], _ended(run))
    return newest


def _ended(run: Run) -> UnfinishedRun:
    tags, info = run.data.tags, run.info
    outcome = tags.get(OUTCOME) or info.status.lower()
    if info.status == "RUNNING" and processes.certainly_gone(tags.get(PROCESS, "")):
        outcome = "killed"
    at = datetime.fromtimestamp((info.end_time or info.start_time) / 1000, UTC)
    return UnfinishedRun(info.run_id, str(info.experiment_id), outcome, at)


def _pages(ask: Any) -> Iterator[Any]:
    token = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return
