"""What commands that run lifecycles share: how they start Prefect here, and how they end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from softprompt_core.lifecycle.result import LifecycleResult


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
    from flows.cli import ci_reports
    from flows.cli.output import print_json, print_outcome, print_results
    from flows.prefect_server import exit_if_unanswered
    from softprompt_core.errors import SoftpromptError
    from softprompt_core.lifecycle.result import LifecycleResult, exit_code
    from softprompt_core.store.addresses import Addresses

    summary = ci_reports.summary_file() if reports.github_summary else None
    for option, file in (("--junit", reports.junit), ("--github-summary", summary)):
        if file is not None:
            ci_reports.require_writable(file, option)
    try:
        results = lifecycles()
    except SoftpromptError as error:
        results = [LifecycleResult(task=path.stem, outcome=error.outcome, reason=str(error), dry_run=dry_run) for path in specs]
    if reports.json:
        print_json([result.model_dump(mode="json") for result in results])
    else:
        print_results(results)
        if not remote and any(result.run_url for result in results) and Addresses.from_settings().is_local:
            print("Review them in the MLflow pages: softprompt ui")
        print_outcome(results)
    if reports.junit is not None:
        reports.junit.write_text(ci_reports.junit(results), encoding="utf-8")
    if summary is not None:
        with summary.open("a", encoding="utf-8") as page:
            page.write(ci_reports.github_summary(results))
    code = exit_code(results, strict=reports.strict)
    exit_if_unanswered(code)
    raise typer.Exit(code)


@contextmanager
def prefect_and_store() -> Iterator[None]:
    """Make ready for flows in this process.

    A store that does not answer is told at once, before Prefect is imported, which takes seconds.

    Raises:
        Unavailable: the store or a configured Prefect server does not answer, or Prefect's own server does not start in time.
    """
    from flows.environment import prepare_environment
    from softprompt_core.errors import Unavailable

    prepare_environment()
    from softprompt_core.store.connection import Store

    Store.connect()
    try:
        yield
    except RuntimeError as error:
        if "Prefect API server" not in str(error):
            raise
        do = "try again, or run `prefect server start` and set PREFECT_API_URL"
        raise Unavailable("Prefect's own server did not start in time", do=do) from None
