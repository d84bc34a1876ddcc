"""Settings that Prefect reads while it is imported, so they are set before. Whatever the user has set stays."""

from __future__ import annotations

import base64
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from softprompt_core import settings
from softprompt_core.errors import Unavailable
from softprompt_core.settings import home

if TYPE_CHECKING:
    import httpx

_ANSWER_S = 8.0
_REFUSALS = (401, 403)


def prepare_environment() -> None:
    """Point Prefect to this project's own folder, without telemetry and console output; check a configured server.

    Raises:
        InvalidInput: a setting is wrong.
        Unavailable: PREFECT_API_URL names a server that does not answer, or refuses; or the folder cannot be written.
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
    _make_folder(Path(os.environ["PREFECT_HOME"]))  # Prefect's server cannot make a database in a missing folder
    address = settings.current().prefect_api_url
    if address:
        _require_server(address)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        what = f"no files can be written there: {error.strerror or error}"
        variable = "SOFTPROMPT_HOME" if home() in folder.parents else "PREFECT_HOME"
        raise Unavailable(what, where=str(folder), do=f"let {variable} name a folder that can be written") from None


def _require_server(address: str) -> None:
    import httpx

    where = f"PREFECT_API_URL {address}"
    other = "or unset PREFECT_API_URL to run without a server"
    try:
        health = httpx.get(f"{address.rstrip('/')}/health", timeout=_ANSWER_S)
        refusing = health if health.status_code in _REFUSALS else _ask_with_log_in(address)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        what = f"the Prefect server does not answer ({type(error).__name__})"
        raise Unavailable(what, where=where, do=f"start it (`prefect server start`), {other}") from None
    if refusing.status_code in _REFUSALS:
        do = f"set PREFECT_API_AUTH_STRING (user:password), or PREFECT_API_KEY for Prefect Cloud, {other}"
        raise Unavailable(f"the Prefect server refuses the log-in ({refusing.status_code})", where=where, do=do)
    if health.status_code >= 500:
        do = f"look at its log and its database, {other}"
        raise Unavailable(f"the Prefect server answers with an error ({health.status_code})", where=where, do=do)
    if not health.is_success or "html" in health.headers.get("content-type", ""):
        do = f"correct the address, which ends in /api as in http://127.0.0.1:4200/api, {other}"
        raise Unavailable("what answers there is not the API of a Prefect server", where=where, do=do)


def _ask_with_log_in(address: str) -> httpx.Response:
    """A request that needs the log-in, as that for the server's health does not."""
    import httpx

    return httpx.get(f"{address.rstrip('/')}/admin/version", headers=log_in_headers(), timeout=_ANSWER_S)


def log_in_headers() -> dict[str, str]:
    """What a request to the configured server needs. Raises ValueError where PREFECT_CLIENT_CUSTOM_HEADERS is no JSON."""
    chosen = settings.current()
    headers = {}
    if chosen.prefect_api_key is not None:
        headers["Authorization"] = f"Bearer {chosen.prefect_api_key.get_secret_value()}"
    elif chosen.prefect_api_auth_string is not None:
        log_in = chosen.prefect_api_auth_string.get_secret_value().encode()
        headers["Authorization"] = f"Basic {base64.b64encode(log_in).decode()}"
    custom = json.loads(os.environ.get("PREFECT_CLIENT_CUSTOM_HEADERS") or "{}")
    return {**headers, **custom}
