"""Commands that look after champions: ``monitor``, ``revalidate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.running import Json

if TYPE_CHECKING:
    from softprompt_core.stages.monitoring import HealthResult
    from softprompt_core.stages.revalidation import Revalidation

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
    from flows.cli.output import print_json
    from flows.environment import prepare_environment

    prepare_environment()
    from flows.monitor import run_monitor
    from softprompt_core.stages import record

    record.client()
    files = [str(Path(pattern).expanduser().absolute()) for pattern in data or ()]
    results = run_monitor(targets, files, margin=margin, confidence=confidence, min_rows=min_rows)
    if json:
        print_json([result.to_json() for result in results])
    else:
        for result in results:
            _print(result)
    raise typer.Exit(max((result.exit_code for result in results), default=0))


def _print(result: HealthResult) -> None:
    print(f"\n{result.task}{f' v{result.version}' if result.version else ''}: {result.reason}")
    for finding in result.findings:
        print(f"  {_MARKS[str(finding['status'])]} {finding['reason']}")
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
    from flows.cli.output import print_json
    from flows.environment import prepare_environment
    from softprompt_core.errors import InvalidInput

    if revision is not None and base is None:
        raise InvalidInput("a revision needs a base", where="--revision", do="name it with --base")
    prepare_environment()
    from softprompt_core.stages import record

    record.client()
    from flows.revalidate import run_revalidation

    place = str(Path(base).expanduser().absolute()) if base is not None and Path(base).expanduser().is_dir() else base
    found = run_revalidation(targets or [], place, revision)
    if json:
        print_json([one.to_json() for one in found])
    elif not found:
        print("There is no champion yet.")
    else:
        _print_revalidation(found)
    raise typer.Exit(max((one.validity.exit_code for one in found), default=0))


def _print_revalidation(found: list[Revalidation]) -> None:
    from flows.cli.output import print_table

    for one in found:
        print(f"\n{one.task}: {one.reason}")
        for line in one.gates:
            print(line)
    print()
    heads = ("task", "champion", "trained on", "base", "scored", "validity")
    cells = (
        (f"v{one.version}" if one.version else "–", one.trained_on or "–", one.base or "–", "yes" if one.scored else "no")
        for one in found
    )
    print_table(heads, [(one.task, *row, one.validity.value) for one, row in zip(found, cells, strict=True)])
