"""Where the record is kept: the addresses of MLflow, and this project's own folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from softprompt_core import settings
from softprompt_core.masking import masked

_DATABASE_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql")


@dataclass(frozen=True)
class Addresses:
    """Addresses of the record.

    Attributes:
        tracking_uri: holds runs and, unless ``registry_uri`` says otherwise, registered models.
        artifact_root: URI below which files of new experiments go; None leaves that to the server.
        home: this project's own folder, with locks, metric buffers and work in progress.
    """

    tracking_uri: str
    registry_uri: str | None
    artifact_root: str | None
    home: Path

    @classmethod
    def from_settings(cls) -> Addresses:
        """The addresses that are set (``softprompt_core.settings``), else a SQLite file and a folder below ``home``."""
        current, home = settings.current(), settings.home()
        tracking = current.mlflow_tracking_uri or f"sqlite:///{home / 'mlflow.db'}"
        # Behind a database address there is no server to choose a folder, and MLflow would take ./mlruns of the current one.
        root = current.artifact_root or ((home / "artifacts").as_uri() if is_database(tracking) else None)
        return cls(tracking, current.mlflow_registry_uri, root, home)

    @property
    def models_uri(self) -> str:
        """Where registered models are."""
        return self.registry_uri or self.tracking_uri

    @property
    def masked_tracking_uri(self) -> str:
        """``tracking_uri`` without passwords, for messages."""
        return masked(self.tracking_uri)

    @property
    def is_local(self) -> bool:
        """Whether no MLflow server shows the record, so that ``softprompt ui`` has to."""
        return not self.tracking_uri.startswith("http")

    @property
    def ui(self) -> str:
        """Where MLflow's pages are: the tracking server, without a log-in, or where ``softprompt ui`` serves a local database."""
        uri = settings.current().ui_url if self.is_local else self.tracking_uri
        scheme, _, place = masked(uri).partition("://")
        return f"{scheme}://{place.rpartition('@')[2]}".rstrip("/")

    def page(self, path: str) -> str:
        """One of MLflow's pages, in the view that shows runs and registered models; its other view is about traces."""
        return f"{self.ui}/#/{path}?workflowType=machine_learning"


def is_database(uri: str) -> bool:
    """Whether an address is that of a database, and not of an MLflow server."""
    return urlsplit(uri).scheme.split("+")[0] in _DATABASE_SCHEMES
