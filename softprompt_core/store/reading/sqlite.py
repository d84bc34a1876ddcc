"""Reads of MLflow's SQLite file without importing its client, which takes seconds.

MLflow's tables are no public interface. They are read only at the one revision that this was written for; a database of any other
is read through the client. A test holds the two to the same answers.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from softprompt_core.store.reading.reader import PAGE_SIZE, StoredModel, StoredRun, StoredVersion, moment

REVISION = "dc11669786a5"
"""The last migration of MLflow 3.17."""
_BUSY_S = 10.0
_NO_PROMPT = "NOT IN (SELECT name FROM {table} WHERE key = 'mlflow.prompt.is_prompt' AND value = 'true')"
_MODELS = f"registered_models WHERE workspace = 'default' AND name {_NO_PROMPT.format(table='registered_model_tags')}"
_VERSIONS = (
    "model_versions WHERE workspace = 'default' AND current_stage != 'Deleted_Internal' "
    f"AND name {_NO_PROMPT.format(table='model_version_tags')}"
)
_RUN_COLUMNS = "run_uuid, experiment_id, name, status, start_time, end_time"
_ALIASES = "SELECT name, alias, version FROM registered_model_aliases WHERE workspace = 'default'"


class SqliteReader:
    """``Reader`` over MLflow's SQLite file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def is_readable(self) -> bool:
        """Whether the file has MLflow's tables as this class knows them."""
        if os.environ.get("MLFLOW_ENABLE_WORKSPACES") or not self._file.is_file():
            return False
        with closing(self._connect()) as database:
            names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            return "alembic_version" in names and list(database.execute("SELECT * FROM alembic_version")) == [(REVISION,)]

    def models(self) -> list[StoredModel]:
        return self._models("")

    def model(self, name: str) -> StoredModel | None:
        return next(iter(self._models("AND name = ?", name)), None)

    def has_prompt(self, name: str) -> bool:
        condition = "key = 'mlflow.prompt.is_prompt' AND value = 'true' AND workspace = 'default' AND name = ?"
        return bool(self._all(f"SELECT 1 FROM registered_model_tags WHERE {condition}", name))

    def versions(self, name: str | None = None) -> list[StoredVersion]:
        return self._versions("") if name is None else self._versions("AND name = ?", name)

    def version(self, name: str, version: int) -> StoredVersion | None:
        return next(iter(self._versions("AND name = ? AND version = ?", name, version, with_aliases=True)), None)

    def experiment_pages(self) -> Iterator[list[str]]:
        query = "SELECT experiment_id FROM experiments WHERE lifecycle_stage = 'active' AND name GLOB 'softprompt/*'"
        yield from _in_parts(str(number) for (number,) in self._all(query))

    def runs(self, experiments: Sequence[str], status: str, *, newest: int | None = None) -> list[StoredRun]:
        operator = "!=" if status.startswith("!") else "="
        places = ", ".join("?" * len(experiments))
        condition = f"experiment_id IN ({places}) AND status {operator} ? ORDER BY start_time DESC, run_uuid LIMIT ?"
        return self._runs(condition, *map(int, experiments), status.removeprefix("!"), -1 if newest is None else newest)

    def tagged_runs(self, experiments: Sequence[str], tag: str, value: str) -> list[StoredRun]:
        tagged = "run_uuid IN (SELECT run_uuid FROM tags WHERE key = ? AND value = ?)"
        condition = f"experiment_id IN ({', '.join('?' * len(experiments))}) AND {tagged} ORDER BY start_time DESC, run_uuid"
        return self._runs(condition, *map(int, experiments), tag, value)

    def run(self, run_id: str) -> StoredRun | None:
        return next(iter(self._runs("run_uuid = ?", run_id)), None)

    def _models(self, condition: str, *values: Any) -> list[StoredModel]:
        with closing(self._connect()) as database:
            names = [name for (name,) in database.execute(f"SELECT name FROM {_MODELS} {condition} ORDER BY name", values)]
            tags: dict[str, dict[str, str]] = {name: {} for name in names}
            aliases: dict[str, dict[str, int]] = {name: {} for name in names}
            selected = "SELECT name, key, value FROM registered_model_tags WHERE workspace = 'default'"
            for name, key, value in database.execute(f"{selected} {condition}", values):
                if name in tags:
                    tags[name][key] = value
            for name, alias, version in database.execute(f"{_ALIASES} {condition}", values):
                if name in aliases:
                    aliases[name][alias] = version
        return [StoredModel(name, tags[name], aliases[name]) for name in names]

    def _versions(self, condition: str, *values: Any, with_aliases: bool = False) -> list[StoredVersion]:
        with closing(self._connect()) as database:
            columns = "name, version, run_id, creation_time, description"
            rows = list(database.execute(f"SELECT {columns} FROM {_VERSIONS} {condition}", values))
            tags: dict[tuple[str, int], dict[str, str]] = {(name, version): {} for name, version, *_ in rows}
            selected = "SELECT name, version, key, value FROM model_version_tags WHERE workspace = 'default'"
            for name, version, key, value in database.execute(f"{selected} {condition}", values) if rows else ():
                if (name, version) in tags:
                    tags[name, version][key] = value
            aliases = None
            if with_aliases:
                aliases = tuple(sorted(alias for _, alias, _ in database.execute(f"{_ALIASES} {condition}", values)))
        return [
            StoredVersion(name, version, run_id or "", moment(created), tags[name, version], description or "", aliases)
            for name, version, run_id, created, description in rows
        ]

    def _runs(self, condition: str, *values: Any) -> list[StoredRun]:
        with closing(self._connect()) as database:
            query = f"SELECT {_RUN_COLUMNS} FROM runs WHERE lifecycle_stage = 'active' AND {condition}"
            rows = list(database.execute(query, values))
            tags: dict[str, dict[str, str]] = {run_id: {} for run_id, *_ in rows}
            for ids in _in_parts(tags):
                selected = f"SELECT run_uuid, key, value FROM tags WHERE run_uuid IN ({', '.join('?' * len(ids))})"
                for run_id, key, value in database.execute(selected, ids):
                    tags[run_id][key] = value
        return [
            StoredRun(run_id, str(of), name or "", status, moment(start), None if end is None else moment(end), tags[run_id])
            for run_id, of, name, status, start, end in rows
        ]

    def _all(self, query: str, *values: Any) -> list[Any]:
        with closing(self._connect()) as database:
            return list(database.execute(query, values))

    def _connect(self) -> sqlite3.Connection:
        # A file that is gone must not come into being again, empty.
        uri = f"{self._file.absolute().as_uri()}?mode=rw"
        database = sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None)
        database.execute("BEGIN")  # all queries of a call see the same state
        return database


def _in_parts(ids: Iterable[str]) -> Iterator[list[str]]:
    """Lists of a thousand: SQLite takes no more than a few thousand values in one query."""
    every = list(ids)
    for start in range(0, len(every), PAGE_SIZE):
        yield every[start : start + PAGE_SIZE]
