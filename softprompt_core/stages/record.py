"""The record in MLflow as the stages use it: one checked connection a process, and links that people can open."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from softprompt_core import settings
from softprompt_core.registry import Stores, connect, default_stores
from softprompt_core.stages.workspace import home

if TYPE_CHECKING:
    from mlflow import MlflowClient


def stores() -> Stores:
    return default_stores(home())


def client() -> MlflowClient:
    """A client of the record; the first call checks that it answers.

    Raises:
        Unavailable: MLflow cannot be reached.
    """
    return _connected(stores())


@functools.lru_cache(maxsize=4)
def _connected(where: Stores) -> MlflowClient:
    return connect(where)


def ui_address() -> str:
    """Where the MLflow pages are: the tracking server, or where ``softprompt ui`` serves a local database."""
    uri = stores().tracking_uri
    return uri.rstrip("/") if uri.startswith("http") else settings.current().ui_url.rstrip("/")


def run_url(experiment_id: str, run_id: str) -> str:
    return f"{ui_address()}/#/experiments/{experiment_id}/runs/{run_id}"


def model_url(name: str) -> str:
    return f"{ui_address()}/#/models/{name}"


def version_url(name: str, version: int) -> str:
    return f"{model_url(name)}/versions/{version}"
