"""What a record can be kept in. Most tests use SQLite alone; those that depend on how MLflow is reached use more."""

import pytest

_SERVER = pytest.param("server", marks=pytest.mark.xdist_group(name="mlflow-server"))
_POSTGRES = pytest.param("postgres", marks=pytest.mark.xdist_group(name="postgres"))

on_sqlite_and_server = pytest.mark.parametrize("store", ["sqlite", _SERVER], indirect=True)
on_every_database = pytest.mark.parametrize("store", ["sqlite", _SERVER, _POSTGRES], indirect=True)
