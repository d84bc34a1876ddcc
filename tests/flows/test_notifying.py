"""Messages after a lifecycle: a real Prefect server keeps the block, a real HTTP server receives what it sends."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from softprompt_core.errors import Outcome
from softprompt_core.lifecycle.result import LifecycleResult
from softprompt_core.store import tags, versions
from softprompt_core.store.connection import Store
from tests.toy_task import write_toy

pytestmark = pytest.mark.usefixtures("prefect_server")

SHORT = {"max_steps": 4, "eval_every": 2, "batch_size": 16}


class Inbox(ThreadingHTTPServer):
    """Keeps what is posted; answers 500 under ``/broken``."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Inbox

    def do_POST(self) -> None:
        self.server.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(500 if self.path.startswith("/broken") else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    server = Inbox()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def save_block(name: str, url: str) -> str:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    block = CustomWebhookNotificationBlock(name=name, url=url, json_data={"subject": "{{subject}}", "body": "{{body}}"})
    block.save(name, overwrite=True)
    return f"custom-webhook/{name}"


@pytest.fixture
def block(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> str:
    name = save_block("inbox", inbox.address)
    monkeypatch.setenv("SOFTPROMPT_NOTIFY_BLOCK", name)
    return name


def result(outcome: Outcome, **changes: Any) -> LifecycleResult:
    fields = {"reason": "accuracy fell", "version": 3, "run_url": "http://mlflow/run", "prefect_url": "http://prefect/run"}
    return LifecycleResult(task="sst2", outcome=outcome, **{**fields, **changes})


def test_a_message_names_outcome_reason_and_links(inbox: Inbox, block: str) -> None:
    from flows.notifying import notify

    assert notify(result(Outcome.AWAITING_APPROVAL))
    assert inbox.received == [
        {
            "subject": "sst2 version 3: awaiting approval",
            "body": "accuracy fell\nTo approve: softprompt registry approve sst2 3 --by WHO --reason WHY\n"
            "MLflow: http://mlflow/run\nPrefect: http://prefect/run",
        }
    ]


def test_by_default_only_news_that_asks_for_a_person_is_sent(inbox: Inbox, block: str) -> None:
    from flows.notifying import notify

    sent = [outcome.value for outcome in Outcome if notify(result(outcome))]
    assert sent == ["rejected", "awaiting_approval", "invalid", "diverged", "unavailable"]
    assert len(inbox.received) == len(sent)


def test_the_setting_chooses_the_outcomes_and_no_block_means_no_message(
    inbox: Inbox, block: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.notifying import notify

    monkeypatch.setenv("SOFTPROMPT_NOTIFY_ON", "promoted")
    assert notify(result(Outcome.PROMOTED)) and not notify(result(Outcome.REJECTED))
    monkeypatch.delenv("SOFTPROMPT_NOTIFY_BLOCK")
    assert not notify(result(Outcome.PROMOTED))
    assert len(inbox.received) == 1


def test_a_password_in_a_reason_stays_here(inbox: Inbox, block: str) -> None:
    from flows.notifying import notify

    notify(result(Outcome.UNAVAILABLE, reason="MLflow at postgresql://me:geheim@db/x does not answer"))
    assert "geheim" not in json.dumps(inbox.received)


def test_a_block_that_knows_async_only_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.blocks.abstract import NotificationBlock

    from flows.notifying import notify

    subjects: list[str] = []

    class OnlyAsync(NotificationBlock):
        async def notify(self, body: str, subject: str | None = None) -> None:
            subjects.append(f"{subject}")

    OnlyAsync().save("ours", overwrite=True)
    monkeypatch.setenv("SOFTPROMPT_NOTIFY_BLOCK", f"{OnlyAsync.get_block_type_slug()}/ours")
    assert notify(result(Outcome.REJECTED)) and subjects == ["sst2 version 3: rejected"]


@pytest.mark.parametrize("broken", ["absent", "refused", "no server", "no messages"])
def test_a_message_that_cannot_be_sent_is_a_warning_without_the_address(
    broken: str, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from prefect.blocks.system import Secret

    from flows.notifying import notify

    if broken == "refused":
        name = save_block("refused", f"{inbox.address}/broken/key-geheim")
    elif broken == "no server":
        name = save_block("no-server", "http://127.0.0.1:9/key-geheim")
    elif broken == "no messages":
        Secret(value="geheim").save("not-a-webhook", overwrite=True)
        name = "secret/not-a-webhook"
    else:
        name = "custom-webhook/absent"
    monkeypatch.setenv("SOFTPROMPT_NOTIFY_BLOCK", name)
    assert notify(result(Outcome.REJECTED)) is False
    warning = capsys.readouterr().err
    assert f"through the block {name}" in warning and "geheim" not in warning
    assert ("status 500" in warning) == (broken == "refused")


def test_a_lifecycle_sends_one_message_and_a_broken_block_changes_no_outcome(
    inbox: Inbox, block: str, empty_home: Path, taught_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.fleet import run_fleet

    never = [{"metric": "accuracy", "at_least": 1.01}]
    schedule = {"cron": "0 3 * * 1", "timezone": "Europe/Berlin"}
    spec = write_toy(tmp_path, taught_base, name="told", training=SHORT, gates=never, schedule=schedule)
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: [\n")
    results = run_fleet([spec, bad], force=False)
    assert [each.outcome for each in results] == [Outcome.REJECTED, Outcome.INVALID]
    assert [message["subject"] for message in inbox.received] == ["bad: invalid", "told version 1: rejected"]
    assert f"MLflow: {results[0].run_url}" in inbox.received[1]["body"]
    # What `softprompt status` reads the next run from.
    assert versions.get(Store.connect(), "told", 1).tags[tags.SCHEDULE] == "0 3 * * 1 Europe/Berlin"
    monkeypatch.setenv("SOFTPROMPT_NOTIFY_BLOCK", "custom-webhook/absent")
    (again,) = run_fleet([spec], force=True)
    assert again.outcome is Outcome.REJECTED and len(inbox.received) == 2
