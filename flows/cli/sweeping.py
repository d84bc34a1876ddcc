"""The command ``sweep``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.running import Cpus, Gpus, Json, Ray, wants_ray

if TYPE_CHECKING:
    from softprompt_core.stages.sweep_choice import SweepResult


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
    from flows.cli.ci_reports import require_writable
    from flows.cli.output import print_json
    from softprompt_core.errors import SoftpromptError
    from softprompt_core.stages.sweep_choice import SweepResult

    ray = wants_ray(ray, cpus_per_task, gpus_per_task)
    if write_spec is not None:
        require_writable(write_spec, "--write-spec")
    try:
        result = _sweep(spec, grid, max_points, one_standard_error, ray)
    except SoftpromptError as error:
        result = SweepResult(spec.stem, error.outcome, str(error))
    if write_spec is not None and result.chosen is not None:
        _write(spec, result, write_spec)
    if json:
        print_json(result.to_json())
    else:
        _print(result, write_spec)
    raise typer.Exit(result.exit_code)


def _sweep(path: Path, axes: list[str], max_points: int, one_standard_error: bool, ray: bool) -> SweepResult:
    """Run the flow; mistakes and a store that is down are found before Prefect starts, which takes seconds."""
    from flows.cli.running import prefect_starts
    from flows.environment import prepare_environment
    from softprompt_core.spec import load_spec
    from softprompt_core.spec.grid import grid_points, parse_grid

    grid = parse_grid(axes)
    grid_points(load_spec(path), grid, folder=path.parent, max_points=max_points)
    prepare_environment()
    from softprompt_core.stages import record

    record.client()
    from flows.sweep import run_sweep

    with prefect_starts():
        return run_sweep(path.absolute(), grid, max_points=max_points, one_standard_error=one_standard_error, ray=ray)


def _write(source: Path, result: SweepResult, file: Path) -> None:
    from softprompt_core.spec import parse_spec
    from softprompt_core.spec.rewriting import write_spec

    assert result.chosen is not None
    write_spec(source, result.points[result.chosen].settings, parse_spec(result.spec), file)


def _print(result: SweepResult, written: Path | None) -> None:
    if not result.points:
        print(f"{result.words}: {result.reason}", file=sys.stderr)
        return
    from softprompt_core.stages.record import stores
    from softprompt_core.stages.sweep_choice import advice
    from softprompt_core.stages.sweep_record import winning_yaml

    print(f"\n{result.task}: {result.reason}\n")
    _print_points(result)
    print(f"Compared on {result.rows} validation rows. Test rows played no part, and nothing was registered.")
    if result.best is not None and result.frugal is not None and result.chosen is not None:
        print(advice(result.points, result.best, result.frugal, result.rows))
        print(f"\n# {result.points[result.chosen].name}{f', written to {written}' if written else ''}\n{winning_yaml(result)}")
    if result.run_url:
        print(f"{result.task}: {result.run_url}")
        if not stores().tracking_uri.startswith("http"):
            print("See it in the MLflow pages: softprompt ui")
    if result.prefect_url:
        print(f"{result.task}: {result.prefect_url}")
    print(result.words)


def _print_points(result: SweepResult) -> None:
    from flows.cli.output import print_table
    from softprompt_core.markdown import number
    from softprompt_core.spec.grid import said
    from softprompt_core.stages.sweep_choice import in_order, mark

    several = any(len(point.seeds) + point.diverged_seeds > 1 for point in result.points)
    keys = list(result.points[0].settings)
    rows = []
    for place in in_order(result):
        point = result.points[place]
        seeds = [" ".join(map(number, point.seeds)) + (f" ({point.diverged_seeds} diverged)" if point.diverged_seeds else "")]
        cells = [said(point.settings[key]) for key in keys]
        if point.seeds:
            cells += [number(point.metric), number(point.error), *(seeds if several else ()), number(point.loss)]
            cells += [str(point.steps), f"{point.seconds:.0f} s", mark(result, place)]
        else:
            cells += ["–", "–", *(seeds if several else ()), "–", "–", "–", "diverged"]
        rows.append(cells)
    heads = [
        *keys,
        f"validation {result.metric}",
        "standard error",
        *(("seeds",) if several else ()),
        "loss",
        "steps",
        "done after",
        "",
    ]
    print_table(heads, rows)
