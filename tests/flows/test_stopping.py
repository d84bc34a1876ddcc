"""Signals: what was trained is kept, MLflow knows, nothing goes on, and the exit code is the conventional one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest

from softprompt_core.store import versions
from softprompt_core.store.addresses import Addresses
from softprompt_core.store.connection import Store
from tests.services.commands import Command, Forkserver, until
from tests.toy_task import write_toy

ROOT = Path(__file__).parents[2]
ENDLESS = {"max_steps": 1_000_000, "eval_every": 50, "batch_size": 16, "patience": 1_000_000}
AT_MOST_S = 10.0


@pytest.fixture(scope="module")
def forkserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forkserver]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    with Forkserver({**own, "DO_NOT_TRACK": "true", "HF_HUB_OFFLINE": "1"}) as server:
        yield server


def begin(forkserver: Forkserver, folder: Path, home: Path, *arguments: str) -> Command:
    """A command that is in the middle of its first training, with a checkpoint."""
    command = Command(forkserver, folder, {"SOFTPROMPT_HOME": str(home), "SOFTPROMPT_CHECKPOINT_S": "0"}, *arguments)
    checkpoints = lambda: list(home.glob("work/*/*/checkpoint-*.safetensors"))  # noqa: E731
    until(lambda: checkpoints() or not command.runs, lambda: f"a checkpoint: {command.stderr[-3000:]}")
    assert command.runs, command.stderr[-3000:]
    return command


@pytest.mark.parametrize(
    ("command", "which", "to_group"),
    [("run", signal.SIGTERM, True), ("fleet", signal.SIGHUP, True), ("sweep", signal.SIGINT, False)],
)
def test_a_signal_ends_a_command_within_ten_seconds_with_all_told(
    forkserver: Forkserver,
    empty_home: Path,
    taught_base: Path,
    tmp_path: Path,
    command: str,
    which: signal.Signals,
    to_group: bool,
) -> None:
    specs = [str(write_toy(tmp_path / "specs", taught_base, name=name, training=ENDLESS)) for name in ("first", "second")]
    junit = str(tmp_path / "junit.xml")
    arguments = {
        "run": ["run", *specs, "--junit", junit, "--json"],
        "fleet": ["fleet", str(tmp_path / "specs"), "--junit", junit],
        "sweep": ["sweep", specs[0], "--grid", "prompt.length=2,4"],
    }[command]
    running = begin(forkserver, tmp_path / "command", empty_home, *arguments)
    children = psutil.Process(running.pid).children(recursive=True)
    assert children, "its own Prefect server"

    began = time.monotonic()
    (os.killpg if to_group else os.kill)(running.pid, which)
    ended = running.ended()
    assert time.monotonic() - began < AT_MOST_S
    assert ended.code == 128 + which
    assert f"interrupted by {which.name}: what was trained is kept" in ended.err and "Traceback" not in ended.err
    _, left = psutil.wait_procs(children, timeout=AT_MOST_S)
    assert not left

    assert list(empty_home.glob("work/first/*/checkpoint-*.safetensors"))
    store = Store.connect(Addresses(f"sqlite:///{empty_home / 'mlflow.db'}", None, None, empty_home))
    (experiment,) = [each for each in store.client.search_experiments() if each.name.startswith("softprompt/")]
    (run,) = store.client.search_runs([experiment.experiment_id])
    assert (experiment.name, run.info.status) == ("softprompt/first", "KILLED")
    assert f"by {which.name}" in run.data.tags["mlflow.note.content"]
    assert versions.list_versions(store) == []
    if command != "sweep":
        cases = {case.get("name"): case.find("error") for case in ElementTree.parse(junit).iter("testcase")}
        assert {name: error.get("type") for name, error in cases.items() if error is not None} == {
            "first": "interrupted",
            "second": "interrupted",
        }
    if command == "run":
        assert [result["outcome"] for result in json.loads(ended.out)] == ["interrupted", "interrupted"]


DEAF = """
import hashlib, time
from flows import stopping
stopping.UNWINDING_S = 0.2
stopping.handle_signals()
told = False
while True:
    try:
        if not told:
            told = True
            print("ready", flush=True)
        {work}
    except BaseException:  # some libraries do so
        pass
"""


@pytest.mark.parametrize("work", ["hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)", "time.sleep(60)"])
def test_work_that_keeps_a_signal_to_itself_is_ended_all_the_same(work: str) -> None:
    """A call of a library in which no handler in Python runs, and one that the exception leaves; it is caught by others."""
    process = subprocess.Popen(
        [sys.executable, "-c", DEAF.format(work=work)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for _ in range(3):  # as `timeout` and supervisors send it, several times
        process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (143, "", "interrupted by SIGTERM\n")


def test_a_signal_that_is_ignored_stays_so_as_under_nohup() -> None:
    code = """
import os, signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from flows import stopping
stopping.handle_signals()
os.kill(os.getpid(), signal.SIGHUP)
print("goes on")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "goes on\n")
