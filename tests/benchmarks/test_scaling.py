"""The measurement of many tasks, with three: real registrations, and the commands over them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import scaling
from benchmarks.scaling import measure
from benchmarks.scaling_page import render
from benchmarks.scaling_results import Command, Registered, Results


@pytest.mark.timeout(600)  # five commands in processes of their own, each with its imports
def test_tasks_are_registered_and_then_have_nothing_to_do(tmp_path: Path) -> None:
    results = Results(tasks=3)
    measure(results, "sqlite", 0, tmp_path)
    costs = results.registered["SQLite"]
    assert costs.seconds.keys() == {"data and fingerprint", "run", "version", "decision", "rest"}
    assert {len(seconds) for seconds in costs.seconds.values()} == {2} and costs.evidence > 0
    assert 0 < costs.file_bytes < costs.file_bytes_with_evidence < 2_000_000
    tasks = json.loads(results.status["SQLite"].out)
    assert [(task["task"], task["champion"]) for task in tasks] == [(f"task-{number:06d}", 1) for number in range(3)]
    assert "unchanged" in results.fleet["SQLite"].out and results.fleet["SQLite"].peak > 2**26
    page = render(results)
    assert "| SQLite | 3 |" in page and "Extrapolated" not in page


def test_what_was_measured_before_is_kept_and_goes_between_the_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = ("database", "files", "file_bytes", "database_with_evidence", "files_with_evidence", "file_bytes_with_evidence")
    costs = Registered(
        tasks=1000,
        seconds={"run": [1.0, 3.0]},
        cpu=[0.5, 0.5],
        with_evidence={"run": [3.0, 7.0]},
        requests=80,
        **dict.fromkeys(sizes, 2e6),
    )

    def command(seconds: float) -> Command:
        return Command(seconds=seconds, cpu=1.0, peak=2**27, out="")

    commands = {name: command(115.0) for name in ("PostgreSQL", "MLflow server", "first", "unchanged")}
    start = {name: command(16.0) for name in ("status", "fleet", "deploy")}
    results = Results(
        tasks=1000,
        registered={"PostgreSQL": costs, "MLflow server": costs},
        scheduled=3000,
        few=start,
        small=10,
        deploys=commands,
        status=commands,
        fleet=commands,
    )
    file, page = tmp_path / "results.json", tmp_path / "page.md"
    file.write_text(results.model_dump_json())
    page.write_text("# Words\n<!-- measured -->\nstale figures\n<!-- end -->\nmore words\n")
    arguments = ["scaling", "--parts", "", "--results", str(file), "--write", str(page)]
    monkeypatch.setattr(sys, "argv", arguments)
    scaling.main()
    text = page.read_text()
    assert text.startswith("# Words\n<!-- measured -->") and text.endswith("<!-- end -->\nmore words\n") and "stale" not in text
    assert "| PostgreSQL | 1000 | 1.00 (0.50) | 3.00 (0.50) | 80 |" in text
    assert "| evidence | 3.000 | 3.000 |" in text
    # 16 s to start and 0.1 s a task; 52 versions of 2 MB a year
    (fleet,) = [line for line in text.splitlines() if line.startswith("| `softprompt fleet` with nothing to do")]
    assert fleet.endswith("| 0.28 min | 1.9 min | 170 min |")
    assert "| artifacts of a year of weekly versions | 1 GB | 100 GB | 10,000 GB |" in text
