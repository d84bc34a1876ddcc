"""The command ``sweep``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import Cpus, Gpus, Json, Ray, wants_ray

if TYPE_CHECKING:
    from softprompt_core.operations.sweep.choice import SweepResult


def sweep(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="Spec file that all points have in common.", show_default=False)],
    grid: Annotated[
        list[str],
        typer.Option(
            "--grid",
            metavar="KEY=V1,V2,...",
            help="Values of one key of the spec, as prompt.length=1,5,20; given again, every combination is tried.",
            show_default=False,
        ),
    ],
    max_points: Annotated[int, typer.Option(min=1, help="Refuse a grid with more points.")] = 100,
    one_standard_error: Annotated[
        bool,
        typer.Option("--one-standard-error", help="Choose the shortest prompt within one standard error of the best."),
    ] = False,
    write_spec: Annotated[
        Path | None,
        typer.Option("--write-spec", metavar="FILE", help="Write the spec with the chosen settings; FILE may be SPEC itself."),
    ] = None,
    ray: Ray = False,
    cpus_per_task: Cpus = None,
    gpus_per_task: Gpus = None,
    json: Json = False,
) -> None:
    """Try settings of one task and compare them on its validation rows; registers nothing.

    Points that read the same rows are trained together on one loaded base, each as `run` would train it: a later `run` of the
    chosen point finds its training finished, as does a repeated sweep; a killed one goes on. Test rows play no part.

    Exits 0 when a point gave a prompt, 41 when all diverged; 40 and 50 as other commands do.
    """
    from flows import stopping
    from flows.cli.ci_reports import require_writable
    from flows.cli.output import print_json
    from flows.servers.prefect_server import exit_if_unanswered
    from softprompt_core.errors import SoftpromptError
    from softprompt_core.operations.sweep.choice import SweepResult

    ray = wants_ray(ray, cpus_per_task, gpus_per_task)
    if write_spec is not None:
        require_writable(write_spec, "--write-spec")
    stopping.promise("what was trained is kept, and the same sweep continues from there")
    try:
        result = _sweep(spec, grid, max_points, one_standard_error, ray)
    except SoftpromptError as error:
        result = SweepResult(task=spec.stem, outcome=error.outcome, reason=str(error))
    stopping.raise_if_stopped()
    if write_spec is not None and result.chosen is not None:
        _write(spec, result, write_spec)
    if json:
        print_json(result.model_dump(mode="json"))
    else:
        _print(result, write_spec)
    exit_if_unanswered(result.exit_code)
    raise typer.Exit(result.exit_code)


def _sweep(path: Path, axes: list[str], max_points: int, one_standard_error: bool, ray: bool) -> SweepResult:
    """Run the flow; mistakes are found before Prefect starts."""
    from flows.cli.lifecycles import answering_store, start_prefect
    from softprompt_core.spec import load_spec
    from softprompt_core.spec.grid import grid_points, parse_grid

    grid = parse_grid(axes)
    grid_points(load_spec(path), grid, folder=path.parent, max_points=max_points)
    answering_store()
    start_prefect()
    from flows.sweep import run_sweep_flow

    return run_sweep_flow(path.absolute(), grid, max_points=max_points, one_standard_error=one_standard_error, ray=ray)


def _write(source: Path, result: SweepResult, file: Path) -> None:
    from softprompt_core.spec import parse_spec
    from softprompt_core.spec.rewriting import write_spec

    assert result.chosen is not None
    write_spec(source, result.points[result.chosen].settings, parse_spec(result.spec), file)


def _print(result: SweepResult, written: Path | None) -> None:
    if not result.points:
        print(f"{result.label}: {result.reason}", file=sys.stderr)
        return
    from flows.cli.output import print_links
    from softprompt_core.operations.sweep.choice import advice
    from softprompt_core.operations.sweep.tracking import winning_yaml
    from softprompt_core.store.addresses import Addresses

    print(f"\n{result.task}: {result.reason}\n")
    _print_points(result)
    print(f"Compared on {result.rows} validation rows. Test rows played no part, and nothing was registered.")
    if result.best is not None and result.frugal is not None and result.chosen is not None:
        print(advice(result.points, result.best, result.frugal, result.rows))
        print(f"\n# {result.points[result.chosen].name}{f', written to {written}' if written else ''}\n{winning_yaml(result)}")
    print_links(result.task, result.run_url)
    if result.run_url and Addresses.from_settings().is_local:
        print("See it in the MLflow pages: softprompt ui")
    print_links(result.task, result.prefect_url)
    print(result.label)


def _print_points(result: SweepResult) -> None:
    from flows.cli.output import NONE, print_table
    from softprompt_core.markdown import number
    from softprompt_core.operations.sweep.choice import in_order, mark
    from softprompt_core.spec.grid import as_text

    several = any(len(point.seeds) + point.diverged_seeds > 1 for point in result.points)
    keys = list(result.points[0].settings)
    rows = []
    for index in in_order(result):
        point = result.points[index]
        seeds = " ".join(map(number, point.seeds)) + (f" ({point.diverged_seeds} diverged)" if point.diverged_seeds else "")
        if point.seeds:
            cells = [number(point.metric), number(point.error), seeds, number(point.loss)]
            cells += [str(point.steps), f"{point.seconds:.0f} s", mark(result, index)]
        else:
            cells = [NONE, NONE, seeds, NONE, NONE, NONE, "diverged"]
        rows.append([*(as_text(point.settings[key]) for key in keys), *cells])
    headings = [*keys, f"validation {result.metric}", "standard error", "seeds", "loss", "steps", "done after", ""]
    if not several:
        column = headings.index("seeds", len(keys))
        headings, rows = _without(headings, column), [_without(row, column) for row in rows]
    print_table(headings, rows)


def _without(cells: list[str], column: int) -> list[str]:
    return [*cells[:column], *cells[column + 1 :]]
