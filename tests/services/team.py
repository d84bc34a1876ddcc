"""The team profile as it is run in production: Prefect and MLflow servers on PostgreSQL, files in S3, and a settings file."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Self

from tests.services.commands import Command, Forkserver
from tests.services.mlflow_server import MlflowServer
from tests.services.postgres import Postgres
from tests.services.prefect_server import PrefectServer
from tests.services.s3 import S3

ROOT = Path(__file__).parents[2]


class Team:
    """Four servers and, in ``folder``, a ``softprompt.toml`` with three profiles.

    - ``team``: the tracking server, which hands files through to S3;
    - ``direct``: no tracking server: a database of its own, and files that go to S3 from here;
    - ``laptop``: SQLite and files below ``folder``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres, self.s3 = Postgres(), S3(folder / "s3")
        self._open = ExitStack()
        self._numbers = count()

    @staticmethod
    def missing() -> str | None:
        """Why it cannot run here; None if it can."""
        return Postgres.missing() or S3.missing()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "WARNING", "HF_HUB_OFFLINE": "1"}
            self._forkserver = opened.enter_context(Forkserver({**_inherited(), **quiet}))
            opened.enter_context(self.postgres)
            opened.enter_context(self.s3)
            files, postgres = self.s3.bucket("proxied"), self.postgres
            self.mlflow = MlflowServer(postgres.database("mlflow"), files, self.folder / "mlflow", self.s3.environment)
            self.prefect = PrefectServer(self.folder / "prefect", postgres.database("prefect"))
            opened.enter_context(self.mlflow)
            opened.enter_context(self.prefect)
            (self.folder / "softprompt.toml").write_text(
                f"""
                prefect_api_url = "{self.prefect.url}"
                mlflow_s3_endpoint_url = "{self.s3.url}"
                [profiles.team]
                home = "team-home"
                mlflow_tracking_uri = "{self.mlflow.url}"
                [profiles.direct]
                home = "direct-home"
                mlflow_tracking_uri = "{postgres.database("direct")}"
                artifact_root = "{self.s3.bucket("direct")}/softprompt"
                [profiles.laptop]
                home = "laptop-home"
                """
            )
            self._open = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def environment(self, profile: str) -> dict[str, str]:
        """The environment of a command or a worker with one of the profiles; log-ins come from there, as they should."""
        keys = {name: value for name, value in self.s3.environment.items() if not name.endswith(("_URL", "_URL_S3"))}
        own = {"SOFTPROMPT_CONFIG": str(self.folder / "softprompt.toml"), "SOFTPROMPT_PROFILE": profile, "PYTHONPATH": str(ROOT)}
        return {**_inherited(), **keys, **own}

    def python(self, profile: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run Python in the folder, with a profile's settings."""
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment(profile), capture_output=True, text=True, timeout=600
        )

    def softprompt(self, profile: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the command with a profile."""
        words, output = [str(argument) for argument in arguments], self.folder / "commands" / str(next(self._numbers))
        ended = Command(self._forkserver, output, self.environment(profile), *words, current_folder=self.folder).ended()
        return subprocess.CompletedProcess(["softprompt", *words], ended.code, ended.out, ended.err)


def _inherited() -> dict[str, str]:
    """This process's environment, without what says where servers and files are."""
    foreign = ("AWS_", "MLFLOW_", "PREFECT_", "SOFTPROMPT_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
