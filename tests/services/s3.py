"""An S3 server on this machine: moto's, in a process of its own."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import httpx

from tests.services.service import PATIENCE_S, Service, healthy

_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "not-secret", "AWS_DEFAULT_REGION": "us-east-1"}


class S3(Service):
    """Its content outlives `kill`: moto keeps objects in memory, so every request is recorded and replayed by `start`.

    ``environment`` is what lets MLflow and boto3 find it.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {**_CREDENTIALS, "MLFLOW_S3_ENDPOINT_URL": self.url, "AWS_ENDPOINT_URL_S3": self.url}
        self._recording = folder / "requests.jsonl"

    @classmethod
    def missing(cls) -> str | None:
        absent = [name for name in ("moto", "flask", "boto3") if importlib.util.find_spec(name) is None]
        return f"no S3 server: {', '.join(absent)} not installed (pip: moto[server], boto3)" if absent else None

    def start(self) -> None:
        super().start()
        if self._recording.exists():
            httpx.post(f"{self.url}/moto-api/recorder/replay-recording", timeout=PATIENCE_S).raise_for_status()

    def bucket(self, name: str) -> str:
        """Make a bucket; returns its address ``s3://name``."""
        self.client().create_bucket(Bucket=name)
        return f"s3://{name}"

    def client(self):
        """A boto3 client of this server."""
        import boto3

        keys = {
            "aws_access_key_id": _CREDENTIALS["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": _CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        }
        return boto3.client("s3", endpoint_url=self.url, region_name=_CREDENTIALS["AWS_DEFAULT_REGION"], **keys)

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def _environment(self) -> dict[str, str]:
        return {"MOTO_ENABLE_RECORDING": "true", "MOTO_RECORDER_FILEPATH": str(self._recording)}

    def _answers(self) -> bool:
        return healthy(f"{self.url}/moto-api/data.json")
