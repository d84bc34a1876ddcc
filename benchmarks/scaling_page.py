"""The measured part of docs/scaling.md: tables of the results, and what it comes to at other sizes."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence

from benchmarks.scaling_results import Command, Results
from softprompt_core.markdown import markdown_table

_SIZES = (10, 1_000, 100_000)
_WEEKS = 52


def render(results: Results) -> str:
    """Markdown, without a heading of its own; what was not measured is left out."""
    import mlflow
    import prefect

    made = (
        f"Made by `python -m benchmarks.scaling --tasks {results.tasks}` in {results.minutes:.0f} minutes on a CPU "
        f"({platform.machine()}, {os.cpu_count()} cores, which other programs kept busy: look at the CPU seconds first); Python "
        f"{platform.python_version()}, mlflow {mlflow.__version__}, prefect {prefect.__version__}. Every server ran on the "
        "same machine, PostgreSQL without `fsync`."
    )
    parts = [made]
    if results.registered:
        parts += [_registrations(results), _steps(results), _storage(results), _commands(results)]
    if results.deploys:
        parts.append(_deploys(results))
    if results.deploys and "MLflow server" in results.registered and results.tasks > results.small:
        parts.append(_extrapolated(results))
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _registrations(results: Results) -> str:
    rows = []
    for store, costs in results.registered.items():
        part = max(1, min(100, len(costs.cpu) // 2))
        times = [_both(costs.whole(end), statistics.median(costs.cpu[end])) for end in (slice(part), slice(-part, None))]
        rows.append([store, str(costs.tasks), *times, f"{costs.requests:.0f}"])
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


def _steps(results: Results) -> str:
    stores = results.registered.values()
    names = next(iter(stores)).seconds
    rows = [[name, *(f"{statistics.median(costs.seconds[name]):.3f}" for costs in stores)] for name in names]
    rows.append(["evidence", *(f"{costs.evidence:.3f}" for costs in stores)])
    words = (
        "Median seconds of its steps. *Rest* is assessment, descriptions and the run's end; *evidence* is what reports, figures "
        "and tables add."
    )
    return f"{words}\n\n{markdown_table(['Step', *results.registered], rows, numbers=range(1, len(rows[0])))}"


def _storage(results: Results) -> str:
    rows = []
    for store, costs in results.registered.items():
        pairs = (
            (costs.database, costs.database_with_evidence),
            (costs.file_bytes, costs.file_bytes_with_evidence),
        )
        rows.append([store, *(f"{value / 1000:.1f}" for pair in pairs for value in pair), f"{costs.files_with_evidence:.0f}"])
    words = "**Storage** of one version, in kB: without the evidence for people, and with it."
    headings = ["Store", "Database", "with evidence", "Artifacts", "with evidence", "Files with evidence"]
    return f"{words}\n\n{markdown_table(headings, rows, numbers=range(1, len(headings)))}"


def _commands(results: Results) -> str:
    rows = []
    for store in results.status:
        status, fleet = results.status[store], results.fleet[store]
        rows.append(
            [
                store,
                *(t for command in (status, fleet) for t in (_both(command.seconds, command.cpu), f"{command.peak / 2**20:.0f}")),
            ]
        )
    words = (
        f"**Commands over all of them**, imports and Prefect's own server included: `softprompt status --json`, and `softprompt "
        f"fleet DIR --dry-run --json` over {results.tasks} specs with nothing to do (it reads and fingerprints the data of "
        "each). CPU seconds of the command in brackets, peak memory beside them."
    )
    headings = ["Store", "status, s", "MiB", "fleet --dry-run, s", "MiB"]
    return f"{words}\n\n{markdown_table(headings, rows, numbers=range(1, len(headings)))}"


def _deploys(results: Results) -> str:
    first, again = (_both(results.deploys[name].seconds, results.deploys[name].cpu) for name in ("first", "unchanged"))
    return (
        f"**Schedules.** `softprompt deploy` of {results.tasks} specs, each weekly, on a Prefect server with SQLite: {first} s; "
        f"again, all unchanged: {again} s. The scheduler made {results.scheduled} runs of them and had the last "
        f"{results.scheduler_seconds:.0f} s after the first command began. Prefect's database: "
        f"{results.prefect_bytes / 1e6:.0f} MB."
    )


def _extrapolated(results: Results) -> str:
    """Straight lines through what was measured."""
    store = "PostgreSQL"
    direct = results.registered[store]
    served = results.registered["MLflow server"]  # its database had its first pages and indexes already

    def command(what: str, whole: Command, start: Command) -> tuple[str, float, float, str]:
        each = (whole.seconds - start.seconds) / (results.tasks - results.small)
        return what, start.seconds / 60, max(0.0, each) / 60, "min"

    lines: Sequence[tuple[str, float, float, str]] = (
        (f"registering all once with evidence, one process, {store}", 0.0, (direct.whole() + direct.evidence) / 3600, "h"),
        (f"database of a year of weekly versions, {store}", 0.0, served.database_with_evidence * _WEEKS / 1e9, "GB"),
        ("artifacts of a year of weekly versions", 0.0, direct.file_bytes_with_evidence * _WEEKS / 1e9, "GB"),
        ("their files", 0.0, direct.files_with_evidence * _WEEKS / 1e6, "million"),
        command(f"`softprompt status`, {store}", results.status[store], results.few["status"]),
        command(f"`softprompt fleet` with nothing to do, {store}", results.fleet[store], results.few["fleet"]),
        command("`softprompt deploy`, first", results.deploys["first"], results.few["deploy"]),
        command("`softprompt deploy`, unchanged", results.deploys["unchanged"], results.few["deploy"]),
        ("runs that Prefect has scheduled", 0.0, results.scheduled / results.tasks, ""),
        ("requests a second to the tracking server, if weekly runs are spread evenly", 0.0, served.requests / (7 * 86400), "/s"),
    )
    rows = [[what, *(f"{_rounded(start + each * size)} {unit}".rstrip() for size in _SIZES)] for what, start, each, unit in lines]
    words = f"**Extrapolated** by straight lines from {results.tasks} tasks; commands also from what they cost to start."
    headings = ["What", *(f"{size:,} tasks" for size in _SIZES)]
    return f"{words}\n\n{markdown_table(headings, rows, numbers=range(1, len(headings)))}"


def _rounded(value: float) -> str:
    """Two digits that count, without an exponent."""
    return f"{float(f'{value:.2g}'):,.10g}"
