"""The Prefect server that a command starts for itself: it ends with the command, and the command does not end with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.services.commands import Command, Forkserver, until
from tests.toy_task import write_toy

ROOT = Path(__file__).parents[2]
OWNER = """
from flows.servers import own_server
own_server.start()
print(own_server._server.pid, flush=True)
input()
"""


def environment(home: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    (home / "prefect").mkdir(parents=True, exist_ok=True)
    return {
        **own,
        "PREFECT_HOME": str(home / "prefect"),
        "SOFTPROMPT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }


def test_a_server_ends_with_an_owner_that_is_killed(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        cwd=ROOT,
        env=environment(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    server = psutil.Process(int(owner.stdout.readline()))
    assert server.is_running() and os.getpgid(server.pid) != os.getpgid(owner.pid)
    owner.kill()
    owner.wait()
    until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, "the end of the server")


def test_a_command_whose_server_dies_in_the_training_comes_to_its_outcome_and_says_that_prefect_was_not_told(
    empty_home: Path, taught_base: Path, tmp_path: Path
) -> None:
    training = {"max_steps": 300, "eval_every": 50, "batch_size": 16, "patience": 1000}
    gates = [{"metric": "accuracy", "at_least": 0.0}]
    specs = [
        str(write_toy(tmp_path / name, taught_base, name=name, training=training, gates=gates)) for name in ("first", "second")
    ]
    base = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    with Forkserver(base) as forkserver:
        command = Command(
            forkserver,
            tmp_path / "command",
            {"SOFTPROMPT_HOME": str(empty_home), "SOFTPROMPT_CHECKPOINT_S": "0"},
            "run",
            *specs,
            "--json",
        )
        until(lambda: list(empty_home.glob("work/*/*/checkpoint-*")) or not command.runs, lambda: command.stderr[-3000:])
        assert command.runs, command.stderr[-3000:]
        (server,) = psutil.Process(command.pid).children()
        server.kill()
        ended = command.ended()
    assert ended.code == 0, ended.err
    results = {result["task"]: result["outcome"] for result in json.loads(ended.out)}
    assert results == {"first": "promoted", "second": "promoted"}
    assert "Prefect was not told" in ended.err and "Traceback" not in ended.err


@pytest.fixture
def left_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> psutil.Process:
    """A process that looks like the server of a command of an earlier release that was killed: its parent is gone."""
    home = tmp_path / "home"
    monkeypatch.setenv("SOFTPROMPT_HOME", str(home))
    monkeypatch.setenv("PREFECT_HOME", str(home / "prefect"))
    code = "import time; time.sleep(300)"
    start = (
        "import os, subprocess, sys; "
        f"command = [sys.executable, '-c', {code!r}, 'prefect.server.api.server:create_app']; "
        "print(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)"
    )
    mark = {**environment(home), "PREFECT__SERVER_EPHEMERAL": "1"}
    done = subprocess.run([sys.executable, "-c", start], env=mark, capture_output=True, text=True, check=True)
    return psutil.Process(int(done.stdout))


def test_a_server_that_an_earlier_release_left_is_named_and_ended(left_server: psutil.Process) -> None:
    from flows.doctor.left_servers import end_left_servers, left_servers

    (finding,) = left_servers()
    assert finding.status == "warning" and f"process {left_server.pid} " in finding.found and "--repair" in finding.do
    assert end_left_servers() == [left_server.pid]
    until(lambda: not left_server.is_running() or left_server.status() == psutil.STATUS_ZOMBIE, "its end")
    (finding,) = left_servers()
    assert finding.status == "ok"


def test_servers_with_an_owner_or_of_another_home_are_nobody_elses(
    left_server: psutil.Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.doctor.left_servers import end_left_servers

    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "other"))
    code = "import time; time.sleep(300)"
    owned = subprocess.Popen(
        [sys.executable, "-c", code, "prefect.server.api.server:create_app"],
        env={**environment(tmp_path), "PREFECT_HOME": str(tmp_path / "other"), "PREFECT__SERVER_EPHEMERAL": "1"},
    )
    try:
        until(lambda: "PREFECT__SERVER_EPHEMERAL" in psutil.Process(owned.pid).environ(), "its start")
        assert end_left_servers() == []
    finally:
        owned.kill()
        owned.wait()
        left_server.kill()
