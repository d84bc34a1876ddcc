"""The measurement of many tasks, with three: real registrations, and the commands over them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import scaling
from benchmarks.scaling import Command, Found, Registered, measure
from benchmarks.scaling_page import render


@pytest.mark.timeout(600)  # five commands in processes of their own, each with its imports
def test_tasks_are_registered_and_then_have_nothing_to_do(tmp_path: Path) -> None:
    found = Found(tasks=3)
    measure(found, "sqlite", 0, tmp_path)
    one = found.registered["SQLite"]
    assert one.seconds.keys() == {"data and fingerprint", "run", "version", "decision"} and len(one.seconds["run"]) == 2
    assert 0 < one.file_bytes < one.file_bytes_with_evidence < 2_000_000
    tasks = json.loads(found.status["SQLite"].out)
    assert [(task["task"], task["champion"]) for task in tasks] == [(f"task-{number:06d}", 1) for number in range(3)]
    assert "unchanged" in found.fleet["SQLite"].out and found.fleet["SQLite"].peak > 2**26
    page = render(found)
    assert "| SQLite | 3 |" in page and "Extrapolated" not in page


def test_what_was_measured_before_is_kept_and_goes_between_the_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {"run": [1.0, 1.0], "evidence before": [1.0], "evidence after": [2.0]}
    one = Registered(1000, {"run": [1.0, 3.0]}, [0.5, 0.5], steps, 80.0, *[2e6] * 6)
    commands = {name: Command(115.0, 1.0, 2**27, "") for name in ("PostgreSQL", "MLflow server", "first", "unchanged")}
    start = {name: Command(16.0, 1.0, 2**27, "") for name in ("status", "fleet", "deploy")}
    found = Found(1000, scheduled=3000, few=start, small=10, deploys=commands, status=commands, fleet=commands)
    found.registered = {"PostgreSQL": one, "MLflow server": one}
    results, page = tmp_path / "results.json", tmp_path / "page.md"
    results.write_text(json.dumps(scaling.asdict(found)))
    page.write_text("# Words\n<!-- measured -->\nstale figures\n<!-- end -->\nmore words\n")
    given = ["scaling", "--parts", "", "--results", str(results), "--write", str(page)]
    monkeypatch.setattr(sys, "argv", given)
    scaling.main()
    text = page.read_text()
    assert text.startswith("# Words\n<!-- measured -->") and text.endswith("<!-- end -->\nmore words\n") and "stale" not in text
    assert "| PostgreSQL | 1000 | 1.00 (0.50) | 3.00 (0.50) | 80 |" in text
    # 16 s to start and 0.1 s a task; 52 versions of 2 MB a year
    (fleet,) = [line for line in text.splitlines() if line.startswith("| `softprompt fleet` with nothing to do")]
    assert fleet.endswith("| 0.28 min | 1.9 min | 170 min |")
    assert "| artifacts of a year of weekly versions | 1 GB | 100 GB | 10,000 GB |" in text
