"""One process uses Prefect servers one after the other."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from tests.services.prefect_client import prefect_client
from tests.services.prefect_server import PrefectServer


@pytest.mark.nightly
def test_events_go_to_the_server_that_is_used_now(tmp_path: Path) -> None:
    from prefect.events import emit_event

    for name in ("first", "second"):
        with PrefectServer(tmp_path / name) as server:
            with prefect_client(server.url, PREFECT_HOME=tmp_path / "client"):
                emit_event(f"test.{name}", resource={"prefect.resource.id": "test"})
            assert _named(server.url, f"test.{name}")


def _named(url: str, name: str) -> bool:
    """Whether a server has an event of a name; it writes them a moment after it has taken them."""
    wanted = {"filter": {"event": {"name": [name]}}}
    last = time.monotonic() + 60
    while time.monotonic() < last:
        if httpx.post(f"{url}/events/filter", json=wanted, timeout=30).raise_for_status().json()["events"]:
            return True
        time.sleep(0.2)
    return False
