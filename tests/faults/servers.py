"""The team's servers, started once: MLflow on PostgreSQL (SQLite where that is absent) with files in S3, and Prefect."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, Self

from tests.services.commands import MODULES, Forkserver
from tests.services.mlflow_server import MlflowServer
from tests.services.postgres import Postgres
from tests.services.prefect_server import PrefectServer
from tests.services.proxy import Proxy
from tests.services.s3 import S3
from tests.services.service import Service

Server = Literal["mlflow", "postgres", "s3", "prefect"]


class Servers:
    """Each server with a proxy in front of it, through which all others reach it.

    Attributes:
        environment: what all commands have in common; Prefect reads it while it is imported.
        mlflow_url: address of MLflow, through the proxy.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.s3 = S3(folder / "s3")
        self.postgres = Postgres() if Postgres.missing() is None else None
        self.prefect = PrefectServer(folder / "prefect")
        self.forkserver: Forkserver
        self.mlflow: MlflowServer
        self._proxies: dict[str, Proxy] = {}
        self._killed: set[Server] = set()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        prefect = self._proxy("prefect", self.prefect.port)
        self.environment = {
            "PREFECT_API_URL": f"http://127.0.0.1:{prefect.port}/api",
            "PREFECT_HOME": str(self.folder / "prefect-client"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_CLIENT_MAX_RETRIES": "1",
            "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
            "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
            "MLFLOW_LOGGING_LEVEL": "WARNING",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "HF_HUB_OFFLINE": "1",
        }
        # The environment is set before Prefect is imported.
        modules = (*MODULES, "flows.lifecycle", "flows.doctor.checks")
        self.forkserver = self._stack.enter_context(Forkserver({**os.environ, **self.environment}, modules))
        first: list[Service] = [self.prefect, self.s3, *([self.postgres] if self.postgres else [])]
        for service in first:
            self._stack.callback(service.stop)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda service: service.start(), first))
        self.mlflow = self._mlflow()
        self._stack.callback(self.mlflow.stop)
        self.mlflow_url = f"http://127.0.0.1:{self._proxy('mlflow', self.mlflow.port).port}"
        self.mlflow.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def cut(self, server: Server) -> None:
        """As if the server had died, for whoever uses it."""
        self._proxies[server].cut()

    def kill(self, server: Server) -> None:
        """SIGKILL."""
        self._service(server).kill()
        self._killed.add(server)

    def bring_back(self, server: Server) -> None:
        """Undo either."""
        if server in self._killed:
            self._service(server).start()
            self._killed.remove(server)
        self._proxies[server].restore()

    def _mlflow(self) -> MlflowServer:
        bucket = self.s3.bucket("softprompt")
        s3 = f"http://127.0.0.1:{self._proxy('s3', self.s3.port).port}"
        environment = {name: s3 if value == self.s3.url else value for name, value in self.s3.environment.items()}
        if self.postgres is None:
            database = f"sqlite:///{self.folder / 'mlflow.db'}"
        else:
            port = self._proxy("postgres", self.postgres.port).port
            database = self.postgres.database("mlflow").replace(f":{self.postgres.port}/", f":{port}/")
        return MlflowServer(database, bucket, self.folder / "mlflow", environment)

    def _proxy(self, server: Server, port: int) -> Proxy:
        self._proxies[server] = proxy = self._stack.enter_context(Proxy(port))
        return proxy

    def _service(self, server: Server) -> Service:
        services: dict[Server, Service | None] = {
            "mlflow": self.mlflow,
            "postgres": self.postgres,
            "s3": self.s3,
            "prefect": self.prefect,
        }
        service = services[server]
        assert service is not None, f"{server} is not installed"
        return service
