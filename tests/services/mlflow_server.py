"""``mlflow server`` on this machine."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from tests.services.service import Service, healthy


class MlflowServer(Service):
    """Runs, versions and aliases in the database ``backend``, files below ``artifacts``: a folder or ``s3://bucket/path``.

    The server hands the files through (``mlflow-artifacts:``). ``environment``: what it needs besides, `S3.environment` for one.
    """

    def __init__(self, backend: str, artifacts: str | Path, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        super().__init__(folder)
        self.backend, self.artifacts, self.extra = backend, str(artifacts), dict(environment or {})
        self.url = f"http://127.0.0.1:{self.port}"

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        return [*command, "--backend-store-uri", self.backend, "--artifacts-destination", self.artifacts]

    def _environment(self) -> dict[str, str]:
        return {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **self.extra}

    def _answers(self) -> bool:
        return healthy(f"{self.url}/health")
