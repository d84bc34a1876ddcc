"""Commands that look after champions: ``monitor``, ``revalidate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.running import Json

if TYPE_CHECKING:
    from softprompt_core.stages.monitoring import HealthResult

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
