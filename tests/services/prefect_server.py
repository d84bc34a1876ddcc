"""``prefect server start`` on this machine, with its scheduler."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from tests.services.service import Service, healthy


class PrefectServer(Service):
    """``folder`` is its PREFECT_HOME; ``database`` is any SQLAlchemy address of PostgreSQL, None for SQLite in ``folder``."""

    def __init__(self, folder: Path, database: str | None = None, environment: Mapping[str, str] | None = None) -> None:
        super().__init__(folder)
        self.database, self.extra = database, dict(environment or {})
        self.url = f"http://127.0.0.1:{self.port}/api"

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]

    def _environment(self) -> dict[str, str]:
        own = {
            "PREFECT_HOME": str(self.folder),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_ENABLED": "false",
        }
        if self.database is not None:
            from sqlalchemy import make_url

            address = make_url(self.database).set(drivername="postgresql+asyncpg")  # the one driver that Prefect takes
            own["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = address.render_as_string(hide_password=False)
        return {**own, **self.extra}

    def _answers(self) -> bool:
        return healthy(f"{self.url}/health")
