"""Commands that run lifecycles: ``demo``, ``run``, ``fleet``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from softprompt_core.stages.result import LifecycleResult

Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON and nothing else on stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Run even if nothing has changed since the last decided version.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit 10 when nothing has changed.")]


def run(
    specs: Annotated[list[Path], typer.Argument(metavar="SPEC...", help="Spec files, one a task.", show_default=False)],
    force: Force = False,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Bring tasks up to date: train, evaluate, register and let the gates decide.

    The exit code is the outcome's (promoted and unchanged 0, rejected 20, awaiting_approval 30, invalid 40, diverged 41,
    unavailable 50); with several specs the largest.
    """
    _run(list(specs), force=force, strict=strict, json=json)


def fleet(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of spec files.", show_default=False)],
    force: Force = False,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Bring every task of a folder up to date on one loaded base; a bad spec does not stop the others."""
    from softprompt_core.spec import spec_files

    _run(spec_files(folder), force=force, strict=strict, json=json)


def demo(force: Force = False, json: Json = False) -> None:
    """Run three small tasks on the bundled base model, from data to champion."""
    from importlib.resources import files

    from softprompt_core.spec import spec_files

    folder = Path(str(files("deployments"))) / "demo"  # read as data: flows import nothing from deployments
    if not json:
        print("Three demo tasks on the bundled base model: data, training, evaluation, registration, gates.", file=sys.stderr)
    _run(spec_files(folder), force=force, strict=False, json=json)


def _run(specs: list[Path], *, force: bool, strict: bool, json: bool) -> None:
    from flows.cli.output import print_json, print_outcome, print_results
    from softprompt_core.errors import SoftpromptError
    from softprompt_core.stages.record import stores
    from softprompt_core.stages.result import LifecycleResult, exit_code

    try:
        results = _results(specs, force=force)
    except SoftpromptError as error:
        results = [LifecycleResult(path.stem, error.outcome, str(error)) for path in specs]
    if json:
        print_json([result.to_json() for result in results])
    else:
        print_results(results)
        if any(result.run_url for result in results) and not stores().tracking_uri.startswith("http"):
            print("Review them in the MLflow pages: softprompt ui")
        print_outcome(results)
    raise typer.Exit(exit_code(results, strict=strict))


def _results(specs: list[Path], *, force: bool) -> list[LifecycleResult]:
    """Run the flows; a mistake in a single spec and a store that is down are found before Prefect starts, which takes seconds."""
    from flows.environment import prepare_environment
    from softprompt_core.errors import Unavailable
    from softprompt_core.spec import load_spec

    single = load_spec(specs[0]) if len(specs) == 1 else None
    prepare_environment()
    from softprompt_core.stages import record

    record.client()
    from flows.fleet import run_fleet, run_one

    try:
        return [run_one(single, force=force)] if single is not None else run_fleet(specs, force=force)
    except RuntimeError as error:
        if "Prefect API server" not in str(error):
            raise
        raise Unavailable(
            "Prefect's own server did not start in time",
            do="try again, or run `prefect server start` and set PREFECT_API_URL",
        ) from None
