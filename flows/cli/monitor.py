"""Commands that look after champions: ``monitor``, ``revalidate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import Json

if TYPE_CHECKING:
    from softprompt_core.operations.monitor import HealthResult
    from softprompt_core.operations.revalidate import Revalidation

_MARKS = {"ok": "✓", "worse": "✗", "shifted": "≠", "unknown": "?"}


def monitor(
    targets: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Names of tasks, or their spec files.", show_default=False)
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data", metavar="FILE", help="Fresh rows: a file or a glob; may be given again. Default: the spec's monitor.data."
        ),
    ] = None,
    margin: Annotated[float | None, typer.Option(help="How much lower the metric may be than at promotion.")] = None,
    confidence: Annotated[float | None, typer.Option(help="How sure a bad verdict must be.")] = None,
    min_rows: Annotated[int | None, typer.Option(help="Fewer fresh rows decide nothing.")] = None,
    json: Json = False,
) -> None:
    """Look whether champions still hold their ground on fresh rows; never trains or promotes.

    With the right answers in the rows the champion is scored on them and compared with its test rows at promotion; without,
    inputs and answers are compared with those of the training. The verdict is recorded in MLflow and sent as a Prefect event.

    Exits 0 for healthy, 21 for degraded, 31 for unknown; 40 and 50 as other commands do; with several tasks the largest.
    """
    from flows.cli.lifecycles import answering_store, start_prefect
    from flows.cli.output import print_json

    files = [str(Path(pattern).expanduser().absolute()) for pattern in data or ()]
    answering_store()
    start_prefect()
    from flows.monitor import run_monitor

    results = run_monitor(targets, files, margin=margin, confidence=confidence, min_rows=min_rows)
    if json:
        print_json([result.model_dump(mode="json") for result in results])
    else:
        for result in results:
            _print(result)
    raise typer.Exit(max((result.exit_code for result in results), default=0))


def _print(result: HealthResult) -> None:
    print(f"\n{result.task}{f' v{result.version}' if result.version else ''}: {result.reason}")
    for check in result.findings:
        print(f"  {_MARKS[check.status]} {check.reason}")
    if result.run_url:
        print(result.run_url)
    print(f"{result.task}: {result.health.value}")


def revalidate(
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME|SPEC|DIR...", help="Tasks, spec files or folders of them. Default: every champion."),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The base in question: hub id, folder or bundled. Default: the one that each spec names.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of a hub model.")] = None,
    json: Json = False,
) -> None:
    """List which champions still hold after a change of the base model; promotes nothing.

    holds: trained on this very content, or the vectors pass the task's gates on it. fails: they do not pass. cannot: vectors of
    another width, no gates, or data or base that cannot be read.

    Exits 0 when all hold, 21 when one fails, 31 when one cannot be tried; 40 and 50 as other commands do.
    """
    from flows.cli.lifecycles import answering_store, start_prefect
    from flows.cli.output import print_json
    from softprompt_core.errors import InvalidInput

    if revision is not None and base is None:
        raise InvalidInput("a revision needs a base", where="--revision", do="name it with --base")
    if base is not None and Path(base).expanduser().is_dir():
        base = str(Path(base).expanduser().absolute())
    answering_store()
    start_prefect()
    from flows.revalidate import run_revalidation

    results = run_revalidation(targets or [], base, revision)
    if json:
        print_json([result.model_dump(mode="json") for result in results])
    elif not results:
        print("There is no champion yet.")
    else:
        _print_revalidation(results)
    raise typer.Exit(max((result.validity.exit_code for result in results), default=0))


def _print_revalidation(results: list[Revalidation]) -> None:
    from flows.cli.output import NONE, print_table

    for result in results:
        print(f"\n{result.task}: {result.reason}")
        for line in result.gates:
            print(line)
    print()
    headings = ("task", "champion", "trained on", "base", "scored", "validity")
    rows = [
        (
            result.task,
            f"v{result.version}" if result.version else NONE,
            result.trained_on or NONE,
            result.base or NONE,
            "yes" if result.scored else "no",
            result.validity.value,
        )
        for result in results
    ]
    print_table(headings, rows)
