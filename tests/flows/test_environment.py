"""What a command finds before it begins: Prefect's address, folders, proxies."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from flows.environment import prepare_environment
from softprompt_core import settings
from softprompt_core.errors import InvalidInput, Unavailable

ALL = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PREFECT_") or name.lower() in ALL:
            monkeypatch.delenv(name)
    for name in ALL:  # so that what is set here is undone
        for variable in (name, name.upper()):
            monkeypatch.setenv(variable, "")
    monkeypatch.setenv("PREFECT_HOME", "")
    monkeypatch.delenv("PREFECT_HOME")


@contextmanager
def answering(status: int, body: str, content_type: str, log_in: str | None = None) -> Iterator[str]:
    """A server that always answers the same; with ``log_in`` all but its health is refused to others."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = f"Basic {base64.b64encode(log_in.encode()).decode()}" if log_in else None
            refused = wanted and not self.path.endswith("/health") and self.headers.get("Authorization") != wanted
            self.send_response(401 if refused else status)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api"
    finally:
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "kind", "log_in", "words"),
    [
        (200, "<html>", "text/html", None, "not the API of a Prefect server"),
        (404, "{}", "application/json", None, "not the API of a Prefect server"),
        (401, "{}", "application/json", None, "refuses the log-in"),
        (403, "{}", "application/json", None, "refuses the log-in"),
        (200, "true", "application/json", "me:Geheimnis", "refuses the log-in"),
        (500, "{}", "application/json", None, "answers with an error"),
    ],
)
def test_an_address_that_is_not_prefects_or_refuses_is_not_told_to_start_it(
    monkeypatch: pytest.MonkeyPatch, status: int, body: str, kind: str, log_in: str | None, words: str
) -> None:
    with answering(status, body, kind, log_in) as address:
        monkeypatch.setenv("PREFECT_API_URL", address)
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:another")
        with pytest.raises(Unavailable, match=words) as caught:
            prepare_environment()
    assert "start it" not in str(caught.value)


def test_a_server_that_takes_the_log_in_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(200, "true", "application/json", "me:Geheimnis") as address:
        monkeypatch.setenv("PREFECT_API_URL", address)
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:Geheimnis")
        prepare_environment()


@pytest.mark.parametrize("home", ["/proc/softprompt", "/dev/null/home"])
def test_a_home_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("SOFTPROMPT_HOME", home)
    with pytest.raises(Unavailable, match=r"no files can be written there.*\n.*SOFTPROMPT_HOME"):
        prepare_environment()


@pytest.mark.parametrize("home", ["what?", "~nobody-of-this-name/home"])
def test_a_home_that_cannot_hold_databases_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOFTPROMPT_HOME", home)
    with pytest.raises(InvalidInput, match="SOFTPROMPT_HOME"):
        settings.home()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("variable", ["ALL_PROXY", "http_proxy"])
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "gopher://127.0.0.1:9"])
def test_servers_on_this_machine_are_never_asked_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str
) -> None:
    import requests

    monkeypatch.setenv(variable, proxy)
    with answering(200, "true", "application/json") as address:
        monkeypatch.setenv("PREFECT_API_URL", address)
        prepare_environment()
        for host in ("127.0.0.1", "localhost"):
            url = f"{address.replace('127.0.0.1', host)}/health"
            assert httpx.get(url).text == requests.get(url).text == "true"


def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:9")
    settings.export()
    assert "ALL_PROXY is left out: gopher:// is no kind of proxy" in capsys.readouterr().err
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "intern.example")
    settings.export()
    assert os.environ["NO_PROXY"] == "intern.example,127.0.0.1,localhost,::1" and os.environ["HTTPS_PROXY"]
