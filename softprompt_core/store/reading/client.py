"""Reads through MLflow's client: every kind of server and database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from softprompt_core.store.failures import is_missing
from softprompt_core.store.reading.reader import PAGE_SIZE, StoredModel, StoredRun, StoredVersion, moment

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel
    from mlflow.store.entities import PagedList

T = TypeVar("T")


class ClientReader:
    """``Reader`` over an ``MlflowClient``."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def models(self) -> list[StoredModel]:
        return [_model(model) for page in _pages(self._client.search_registered_models) for model in page]

    def model(self, name: str) -> StoredModel | None:
        model = _unless_missing(lambda: self._client.get_registered_model(name))
        return None if model is None else _model(model)

    def has_prompt(self, name: str) -> bool:
        # MLflow's client hides prompts among models. Not a public name; without it the mistake is found later.
        inner = getattr(self._client, "_get_registry_client", None)
        if inner is None or self.model(name) is not None:
            return False
        return _unless_missing(lambda: inner().get_registered_model(name)) is not None

    def versions(self, name: str | None = None) -> list[StoredVersion]:
        # A quote cannot stand in a task's name, and would end the filter early.
        if name is not None and "'" in name:
            return []
        condition = None if name is None else f"name = '{name}'"
        return [_version(each) for page in _pages(self._client.search_model_versions, condition) for each in page]

    def version(self, name: str, version: int) -> StoredVersion | None:
        stored = _unless_missing(lambda: self._client.get_model_version(name, str(version)))
        return None if stored is None else replace(_version(stored), aliases=tuple(stored.aliases))

    def experiment_pages(self) -> Iterator[list[str]]:
        for page in _pages(self._client.search_experiments, filter_string="name LIKE 'softprompt/%'"):
            if page:
                yield [str(experiment.experiment_id) for experiment in page]

    def runs(self, experiments: Sequence[str], status: str, *, newest: int | None = None) -> list[StoredRun]:
        operator = "!=" if status.startswith("!") else "="
        found = self._search(experiments, f"attributes.status {operator} '{status.removeprefix('!')}'")
        return list(islice(found, newest))

    def tagged_runs(self, experiments: Sequence[str], tag: str, value: str) -> list[StoredRun]:
        return list(self._search(experiments, f"tags.`{tag}` = '{value}'"))

    def run(self, run_id: str) -> StoredRun | None:
        run = _unless_missing(lambda: self._client.get_run(run_id))
        return _run(run) if run is not None and run.info.lifecycle_stage == "active" else None

    def _search(self, experiments: Sequence[str], condition: str) -> Iterator[StoredRun]:
        order = ["attributes.start_time DESC"]
        for page in _pages(self._client.search_runs, list(experiments), condition, order_by=order):
            yield from map(_run, page)


def _pages(search: Callable[..., PagedList[T]], *arguments: Any, **options: Any) -> Iterator[list[T]]:
    token = None
    while True:
        page = search(*arguments, **options, max_results=PAGE_SIZE, page_token=token)
        yield page
        token = page.token
        if not token:
            return


def _unless_missing(call: Callable[[], T]) -> T | None:
    try:
        return call()
    except Exception as error:
        if is_missing(error):
            return None
        raise


def _model(model: RegisteredModel) -> StoredModel:
    return StoredModel(model.name, dict(model.tags), {alias: int(version) for alias, version in model.aliases.items()})


def _version(stored: ModelVersion) -> StoredVersion:
    created, description = moment(stored.creation_timestamp), stored.description or ""
    return StoredVersion(stored.name, int(stored.version), stored.run_id or "", created, dict(stored.tags), description)


def _run(run: Run) -> StoredRun:
    info = run.info
    end = None if info.end_time is None else moment(info.end_time)
    start, tags = moment(info.start_time), dict(run.data.tags)
    return StoredRun(info.run_id, str(info.experiment_id), info.run_name or "", info.status, start, end, tags)
