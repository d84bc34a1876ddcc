"""The record in MLflow as the stages use it: one checked connection a process, and links that people can open."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from softprompt_core import settings
from softprompt_core.registry import Stores, by_alias, connect, default_stores, download, patiently, tags
from softprompt_core.stages.workspace import home

if TYPE_CHECKING:
    from mlflow import MlflowClient

P = ParamSpec("P")
T = TypeVar("T")


def stores() -> Stores:
    return default_stores(home())


def client() -> MlflowClient:
    """A client of the record; the first call checks that it answers.

    Raises:
        Unavailable: MLflow cannot be reached.
    """
    return _connected(stores())


def patient(call: Callable[P, T]) -> Callable[P, T]:
    """Repeat a call that may be repeated, for ``server_wait_s`` seconds while MLflow does not answer; then Unavailable."""

    @functools.wraps(call)
    def repeated(*args: P.args, **kwargs: P.kwargs) -> T:
        return patiently(lambda: call(*args, **kwargs), stores(), settings.current().server_wait_s)

    return repeated


@functools.lru_cache(maxsize=4)
def _connected(where: Stores) -> MlflowClient:
    return connect(where)


def champion(name: str, folder: Path) -> tuple[str | None, int | None]:
    """Folder and number of the version that is champion of a task now; its files are put below ``folder``."""
    found = by_alias(client(), name, tags.CHAMPION)
    if found is None:
        return None, None
    return str(download(client(), name, found.version, folder / f"champion-{found.version}")), found.version


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
