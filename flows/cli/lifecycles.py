"""What commands that run lifecycles share: how they start Prefect here, and how they end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from flows.stopping import Stopped
    from softprompt_core.lifecycle.result import LifecycleResult
    from softprompt_core.store.connection import Store


@dataclass(frozen=True)
class Reports:
    """What a command writes about its lifecycles.

    Attributes:
        json: JSON on stdout in place of tables.
        strict: nothing changed is an exit code of its own.
        junit: file of a JUnit report.
        github_summary: append to the summary of the GitHub job.
    """

    json: bool
    strict: bool = False
    junit: Path | None = None
    github_summary: bool = False


def conclude(
    lifecycles: Callable[[], list[LifecycleResult]],
    specs: Sequence[Path],
    reports: Reports,
    *,
    dry_run: bool = False,
    remote: bool = False,
) -> None:
    """Run, print, write what CI reads, and exit with the outcome's code.

    Args:
        specs: what each of the results is about, in case there are none.
        remote: the lifecycles run elsewhere.
    """
    from flows import stopping
    from flows.cli import ci_reports
    from flows.servers.prefect_server import exit_if_unanswered
    from softprompt_core.errors import SoftpromptError
    from softprompt_core.lifecycle.result import LifecycleResult, exit_code

    summary = ci_reports.summary_file() if reports.github_summary else None
    for option, file in (("--junit", reports.junit), ("--github-summary", summary)):
        if file is not None:
            ci_reports.require_writable(file, option)
    if not remote:
        stopping.promise("what was trained is kept, and the next run continues from there")
    stopped = None
    try:
        results = lifecycles()
        stopping.raise_if_stopped()
    except SoftpromptError as error:
        results = [LifecycleResult(task=path.stem, outcome=error.outcome, reason=str(error), dry_run=dry_run) for path in specs]
    except stopping.Stopped as signal:
        stopped, results = signal, _interrupted(signal, specs, dry_run=dry_run)
    # Files first: what comes of the terminal changes nothing about them.
    if reports.junit is not None:
        ci_reports.write(reports.junit, ci_reports.junit(results))
    if summary is not None:
        ci_reports.write(summary, ci_reports.github_summary(results), append=True)
    _print(results, reports, remote=remote, interrupted=stopped is not None)
    if stopped is not None:
        raise stopped
    code = exit_code(results, strict=reports.strict)
    exit_if_unanswered(code)
    raise typer.Exit(code)


def _print(results: Sequence[LifecycleResult], reports: Reports, *, remote: bool, interrupted: bool) -> None:
    from flows.cli.output import print_json, print_outcome, print_results
    from softprompt_core.store.addresses import Addresses

    if reports.json:
        print_json([result.model_dump(mode="json") for result in results])
    elif not interrupted:
        print_results(results)
        if not remote and any(result.run_url for result in results) and Addresses.from_settings().is_local:
            print("Review them in the MLflow pages: softprompt ui")
        print_outcome(results)


def _interrupted(stopped: Stopped, specs: Sequence[Path], *, dry_run: bool) -> list[LifecycleResult]:
    """The results of the lifecycles that had ended, and one for each that had not."""
    from flows import stopping
    from softprompt_core.errors import NoOutcome
    from softprompt_core.lifecycle.result import LifecycleResult

    stopping.tell(stopped)
    finished: list[LifecycleResult] = stopping.finished()
    ended = {result.task for result in finished}
    reason = f"interrupted by {stopped.signal.name} before it had ended"
    others = [task for task in map(_task_name, specs) if task not in ended]
    unended = [LifecycleResult(task=task, outcome=NoOutcome.INTERRUPTED, reason=reason, dry_run=dry_run) for task in others]
    return [*finished, *unended]


def _task_name(spec: Path) -> str:
    from softprompt_core.errors import SoftpromptError
    from softprompt_core.spec import load_spec

    try:
        return load_spec(spec).name
    except SoftpromptError:
        return spec.stem


def start_prefect() -> None:
    """Import Prefect and start its own server, unless one is configured. Called after ``answering_store``.

    Raises:
        Unavailable: Prefect's own server does not start in time.
    """
    from flows.servers import own_server

    own_server.start(meanwhile=lambda: import_module("prefect"))


def answering_store() -> Store:
    """The store. Asked before Prefect is imported, which takes seconds.

    Raises:
        Unavailable: it or a configured Prefect server does not answer.
    """
    from flows.environment import prepare_environment
    from softprompt_core.store.connection import Store

    prepare_environment()
    return Store.connect()
