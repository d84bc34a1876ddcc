"""Whatever the terminal is: files are written, and the exit code is the outcome's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
# A command that ends with a result in which there are characters that few encodings have.
COMMAND = """
import sys
from pathlib import Path
from flows.cli import terminal
terminal.prepare()
from flows.cli.lifecycles import Reports, conclude
from softprompt_core.errors import Outcome
from softprompt_core.lifecycle.result import LifecycleResult

def lifecycles():
    print("während", "postgresql://me:Geheimnis@db/x", "✓ ✗ → …", file=sys.stderr)
    return [LifecycleResult(task="größe", outcome=Outcome.REJECTED, reason="✗ zu groß → 日本", gates=("✓ accuracy ≥ 0.8",))]

import typer
try:
    conclude(lifecycles, [Path("größe.yaml")], Reports(json="--json" in sys.argv, junit=Path("junit.xml"), github_summary=True))
except typer.Exit as ended:
    sys.exit(ended.exit_code)
"""


def run(folder: Path, *arguments: str, stdout: Any = subprocess.PIPE, stderr: Any = subprocess.PIPE, **more: Any) -> Any:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    environment |= more.pop("environment", {})
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        cwd=folder,
        env=environment,
        stdout=stdout,
        stderr=stderr,
        timeout=120,
        **more,
    )


def check_files(folder: Path) -> None:
    (case,) = ElementTree.parse(folder / "junit.xml").iter("testcase")
    assert case.get("name") == "größe" and case.find("failure") is not None
    assert "zu groß → 日本" in (folder / "summary.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_characters_that_a_terminal_does_not_have_are_replaced(tmp_path: Path, encoding: str) -> None:
    done = run(tmp_path, environment={"PYTHONIOENCODING": encoding})
    assert done.returncode == 20, done.stderr
    check_files(tmp_path)
    out, err = done.stdout.decode(encoding), done.stderr.decode(encoding)
    assert out.splitlines()[-1] == "rejected" and "Traceback" not in err
    if encoding == "ascii":
        assert "+ accuracy >= 0.8" in out and "-> \\u65e5\\u672c" in out and "w\\xe4hrend" in err
    assert "Geheimnis" not in err and "me:***@db" in err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_json_loses_nothing(tmp_path: Path, encoding: str) -> None:
    done = run(tmp_path, "--json", environment={"PYTHONIOENCODING": encoding})
    (result,) = json.loads(done.stdout.decode(encoding))
    assert (done.returncode, result["task"], result["reason"]) == (20, "größe", "✗ zu groß → 日本")


def test_a_pipe_without_a_reader_changes_nothing(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert run(tmp_path, stdout=writing, stderr=writing).returncode == 20
    finally:
        os.close(writing)
    check_files(tmp_path)


def test_closed_streams_change_nothing(tmp_path: Path) -> None:
    def close() -> None:
        for number in (0, 1, 2):
            os.close(number)

    assert run(tmp_path, stdout=None, stderr=None, preexec_fn=close).returncode == 20
    check_files(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_stdout_is_told_and_the_outcome_stands(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = run(tmp_path, stdout=full)
    assert done.returncode == 20 and b"stdout cannot be written: No space left on device" in done.stderr
    check_files(tmp_path)
