"""The measured part of docs/scaling.md: tables of what was found, and what it comes to at other sizes."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from softprompt_core.markdown import markdown_table

if TYPE_CHECKING:
    from benchmarks.scaling import Command, Found

_SIZES = (10, 1_000, 100_000)
_WEEKS = 52


def render(found: Found) -> str:
    """Markdown, without a heading of its own; what was not measured is left out."""
    import mlflow
    import prefect

    made = (
        f"Made by `python -m benchmarks.scaling --tasks {found.tasks}` in {found.minutes:.0f} minutes on a CPU "
        f"({platform.machine()}, {os.cpu_count()} cores, which other programs kept busy: look at the CPU seconds first); Python "
        f"{platform.python_version()}, mlflow {mlflow.__version__}, prefect {prefect.__version__}. Every server ran on the "
        "same machine, PostgreSQL without `fsync`."
    )
    parts = [made]
    if found.registered:
        parts += [_registrations(found), _steps(found), _storage(found), _commands(found)]
    if found.deploys:
        parts.append(_deploys(found))
    if found.deploys and "MLflow server" in found.registered and found.tasks > found.small:
        parts.append(_extrapolated(found))
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _registrations(found: Found) -> str:
    rows = []
    for store, one in found.registered.items():
        part = max(1, min(100, len(next(iter(one.seconds.values()))) // 2))
        times = [_both(one.whole(end), statistics.median(one.cpu[end])) for end in (slice(part), slice(-part, None))]
        rows.append([store, str(one.tasks), *times, f"{one.requests:.0f}"])
    words = (
        "**Registrations.** Median seconds of one task, one after the other, from the spec file to the moved alias, without "
        "training, scoring, figures and tables, among the first and among the last hundred; CPU seconds of the registering "
        "process in brackets. The MLflow server stands on the PostgreSQL that holds the tasks of the line above already. "
        "*Requests*: of one lifecycle, with all its figures and tables."
    )
    headings = ["Store", "Tasks", "First, s", "Last, s", "Requests"]
    return f"{words}\n\n{markdown_table(headings, rows, numbers=range(1, len(headings)))}"


def _both(wall: float, cpu: float) -> str:
    return f"{wall:.2f} ({cpu:.2f})" if wall < 10 else f"{wall:.0f} ({cpu:.0f})"


def _steps(found: Found) -> str:
    stores = found.registered.values()
    names = next(iter(stores)).seconds
    rows = [[name, *(f"{statistics.median(one.seconds[name]):.3f}" for one in stores)] for name in names]
    rows.append(["evidence", *(f"{one.evidence:.3f}" for one in stores)])
    words = "Median seconds of its steps. *Evidence* is the reports, figures and tables for people, which nothing decides on."
    return f"{words}\n\n{markdown_table(['Step', *found.registered], rows, numbers=range(1, len(rows[0])))}"


def _storage(found: Found) -> str:
    rows = []
    for store, one in found.registered.items():
        pairs = (
            (one.database, one.database_with_evidence),
            (one.file_bytes, one.file_bytes_with_evidence),
        )
        rows.append([store, *(f"{value / 1000:.1f}" for pair in pairs for value in pair), f"{one.files_with_evidence:.0f}"])
    words = "**Storage** of one version, in kB: without the evidence for people, and with it."
    headings = ["Store", "Database", "with evidence", "Artifacts", "with evidence", "Files with evidence"]
    return f"{words}\n\n{markdown_table(headings, rows, numbers=range(1, len(headings)))}"


def _commands(found: Found) -> str:
    rows = []
    for store in found.status:
        status, fleet = found.status[store], found.fleet[store]
        rows.append([store, *(t for one in (status, fleet) for t in (_both(one.seconds, one.cpu), f"{one.peak / 2**20:.0f}"))])
    words = (
        f"**Commands over all of them**, imports and Prefect's own server included: `softprompt status --json`, and `softprompt "
        f"fleet DIR --dry-run --json` over {found.tasks} specs with nothing to do (it reads and fingerprints the data of each). "
        "CPU seconds of the command in brackets, peak memory beside them."
    )
    headings = ["Store", "status, s", "MiB", "fleet --dry-run, s", "MiB"]
    return f"{words}\n\n{markdown_table(headings, rows, numbers=range(1, len(headings)))}"


def _deploys(found: Found) -> str:
    first, again = (_both(found.deploys[name].seconds, found.deploys[name].cpu) for name in ("first", "unchanged"))
    return (
        f"**Schedules.** `softprompt deploy` of {found.tasks} specs, each weekly, on a Prefect server with SQLite: {first} s; "
        f"again, all unchanged: {again} s. The scheduler made {found.scheduled} runs of them and had the last "
        f"{found.scheduler_seconds:.0f} s after the first command began. Prefect's database: {found.prefect_bytes / 1e6:.0f} MB."
    )


def _extrapolated(found: Found) -> str:
    """Straight lines through what was measured."""
    store = "PostgreSQL"
    one = found.registered[store]
    served = found.registered["MLflow server"]  # its database had its first pages and indexes already

    def command(what: str, whole: Command, start: Command) -> tuple[str, float, float, str]:
        each = (whole.seconds - start.seconds) / (found.tasks - found.small)
        return what, start.seconds / 60, max(0.0, each) / 60, "min"

    lines: Sequence[tuple[str, float, float, str]] = (
        (f"registering all once with evidence, one process, {store}", 0.0, (one.whole(slice(None)) + one.evidence) / 3600, "h"),
        (f"database of a year of weekly versions, {store}", 0.0, served.database_with_evidence * _WEEKS / 1e9, "GB"),
        ("artifacts of a year of weekly versions", 0.0, one.file_bytes_with_evidence * _WEEKS / 1e9, "GB"),
        ("their files", 0.0, one.files_with_evidence * _WEEKS / 1e6, "million"),
        command(f"`softprompt status`, {store}", found.status[store], found.few["status"]),
        command(f"`softprompt fleet` with nothing to do, {store}", found.fleet[store], found.few["fleet"]),
        command("`softprompt deploy`, first", found.deploys["first"], found.few["deploy"]),
        command("`softprompt deploy`, unchanged", found.deploys["unchanged"], found.few["deploy"]),
        ("runs that Prefect has scheduled", 0.0, found.scheduled / found.tasks, ""),
        ("requests a second to the tracking server, if weekly runs are spread evenly", 0.0, served.requests / (7 * 86400), "/s"),
    )
    rows = [[what, *(f"{_rounded(start + each * size)} {unit}".rstrip() for size in _SIZES)] for what, start, each, unit in lines]
    words = f"**Extrapolated** by straight lines from {found.tasks} tasks; commands also from what they cost to start."
    headings = ["What", *(f"{size:,} tasks" for size in _SIZES)]
    return f"{words}\n\n{markdown_table(headings, rows, numbers=range(1, len(headings)))}"


def _rounded(value: float) -> str:
    """Two digits that count, without an exponent."""
    return f"{float(f'{value:.2g}'):,.10g}"
