"""MLflow's SQLite file, read directly, says what MLflow's client says."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from softprompt_core.errors import Unavailable
from softprompt_core.store import tags
from softprompt_core.store.addresses import Addresses
from softprompt_core.store.connection import Store
from softprompt_core.store.reading.client import ClientReader
from softprompt_core.store.reading.sqlite import REVISION, SqliteReader
from softprompt_core.store.runs import experiment_id, start_run
from softprompt_core.store.versions import Version
from tests.store.ledgers import decide, make_versions


@pytest.fixture
def record(store: Store, name: str, make_version: Callable[..., Version]) -> Store:
    """A record with something of every kind, and with what must not be seen."""
    first, second, third = make_version(), make_version(), make_version(description="ü\n" * 3)
    decide(store, name, first.version, None)
    client = store.client
    client.delete_model_version(name, str(second.version))
    client.set_model_version_tag(name, str(third.version), "a tag", "")
    client.create_registered_model("theirs", tags={"x": "y"}, description="of others")
    client.create_model_version("theirs", "s3://a/b")
    client.register_prompt("a-prompt", "Text with {{holes}}")
    make_versions(store, "another", 2)
    experiment = experiment_id(store, name)
    killed, deleted, tagged = (start_run(store, experiment, run, {"kind": run}) for run in ("killed", "deleted", "it's"))
    client.set_terminated(killed, "KILLED")
    client.delete_run(deleted)
    client.set_terminated(tagged, "FINISHED")
    client.delete_experiment(experiment_id(store, "gone"))
    client.create_experiment("not of this project")
    return store


def test_the_file_says_what_the_client_says(record: Store, name: str, run_id: str) -> None:
    file, client = record.reader, ClientReader(record.client)
    assert isinstance(file, SqliteReader)
    assert file.models() == client.models() and {"theirs", name} <= {model.name for model in file.models()}

    def by_number(reader, *of):
        return sorted(reader.versions(*of), key=lambda each: (each.name, each.version))

    assert by_number(file) == by_number(client) and by_number(file, name) == by_number(client, name)
    assert [version.version for version in by_number(file, name)] == [1, 3]
    for asked in (name, "theirs", "a-prompt", "nobody", "it's"):
        assert file.has_prompt(asked) == client.has_prompt(asked)
        assert file.versions(asked) == client.versions(asked) or asked == name
        assert file.model(asked) == client.model(asked)
    for number in (1, 2, 3, 4):
        assert file.version(name, number) == client.version(name, number)
    pages = list(file.experiment_pages())
    assert sorted(pages[0]) == sorted(next(client.experiment_pages())) and len(pages) == 1 and len(pages[0]) == 1
    for status in ("RUNNING", "!FINISHED", "KILLED", "FAILED"):
        for newest in (None, 1):
            assert file.runs(pages[0], status, newest=newest) == client.runs(pages[0], status, newest=newest)
    assert len(file.runs(pages[0], "!FINISHED")) == 2
    for value in ("killed", "deleted", "none"):
        assert file.tagged_runs(pages[0], "kind", value) == client.tagged_runs(pages[0], "kind", value)
    every = record.client.search_runs(pages[0], run_view_type=3)
    assert len(every) == 4
    for run in every:
        assert file.run(run.info.run_id) == client.run(run.info.run_id)
    assert file.run("none") is None and file.run(run_id) is not None


def test_the_tables_are_those_of_the_mlflow_that_is_installed(blank_database: Path) -> None:
    assert SqliteReader(blank_database).is_readable()
    with sqlite3.connect(blank_database) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [(REVISION,)]


def test_tables_of_another_release_are_left_to_its_client(sqlite_addresses: Addresses) -> None:
    file = Path(sqlite_addresses.tracking_uri.removeprefix("sqlite:///"))
    with sqlite3.connect(file) as database:
        database.execute("UPDATE alembic_version SET version_num = 'another'")
    assert not SqliteReader(file).is_readable()
    with pytest.raises(Unavailable):  # and MLflow refuses it
        Store.connect(sqlite_addresses)


def test_a_file_that_is_no_database_is_told(sqlite_addresses: Addresses) -> None:
    Path(sqlite_addresses.tracking_uri.removeprefix("sqlite:///")).write_text("something else" * 100)
    with pytest.raises(Unavailable, match="file is not a database"):
        Store.connect(sqlite_addresses)


def test_many_runs_are_read(store: Store, name: str) -> None:
    """SQLite takes a limited number of values in a query."""
    experiment = experiment_id(store, name)
    file = Path(store.addresses.tracking_uri.removeprefix("sqlite:///"))
    with sqlite3.connect(file) as database:
        database.executemany(
            "INSERT INTO runs (run_uuid, experiment_id, status, start_time, lifecycle_stage) "
            "VALUES (?, ?, 'RUNNING', ?, 'active')",
            [(f"{number:032}", experiment, number) for number in range(2500)],
        )
        database.executemany("INSERT INTO tags VALUES (?, ?, ?)", [(tags.TASK, name, f"{number:032}") for number in range(2500)])
    runs = store.reader.runs([experiment], "RUNNING")
    assert len(runs) == 2500 and all(run.tags == {tags.TASK: name} for run in runs)
    assert [run.run_id for run in store.reader.runs([experiment], "RUNNING", newest=1)] == [f"{2499:032}"]
