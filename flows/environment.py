"""Settings that Prefect reads while it is imported, so they are set before. Whatever the user has set stays."""

from __future__ import annotations

import os
from pathlib import Path

from softprompt_core import settings
from softprompt_core.errors import Unavailable
from softprompt_core.settings import home


def prepare_environment() -> None:
    """Point Prefect to this project's own folder, without telemetry and console output; check a configured server.

    Raises:
        InvalidInput: a setting is wrong.
        Unavailable: PREFECT_API_URL names a server that does not answer.
    """
    settings.export()
    defaults = {
        "PREFECT_HOME": str(home() / "prefect"),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Every error becomes an outcome with its reason; Prefect's own record still has the logs, tracebacks included.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
        "DO_NOT_TRACK": "true",
        "TOKENIZERS_PARALLELISM": "false",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)  # its server cannot make a database in a missing folder
    address = settings.current().prefect_api_url
    if address:
        _require_server(address)


def _require_server(address: str) -> None:
    import httpx

    try:
        httpx.get(f"{address.rstrip('/')}/health", timeout=8).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(
            f"the Prefect server does not answer ({type(error).__name__})",
            where=f"PREFECT_API_URL {address}",
            do="start it (`prefect server start`), or unset PREFECT_API_URL to run without a server",
        ) from None
