"""Commands that run lifecycles: ``demo``, ``run``, ``fleet``."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.lifecycles import Reports, answering_store, conclude, start_prefect
from flows.cli.options import Cpus, DryRun, Force, GithubSummary, Gpus, Json, Junit, Ray, Strict, wants_ray

if TYPE_CHECKING:
    from flows.remote import Request
    from softprompt_core.lifecycle.result import LifecycleResult

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}


def run(
    specs: Annotated[list[Path], typer.Argument(metavar="SPEC...", help="Spec files, one a task.", show_default=False)],
    force: Force = False,
    strict: Strict = False,
    dry_run: DryRun = False,
    deployment: Annotated[
        bool, typer.Option("--deployment", help="Start the tasks' deployments on the Prefect server instead of running here.")
    ] = False,
    deployment_name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Implies --deployment: its name, with {task} for the task's. Default: softprompt-lifecycle/{task}.",
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the deployment's runs to their outcomes.")] = False,
    timeout: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Wait no longer than this, as in 90s, 30m or 1h30m, and exit 124; runs go on."),
    ] = None,
    cancel_on_interrupt: Annotated[
        bool, typer.Option("--cancel-on-interrupt", help="Ctrl-C, SIGTERM or SIGHUP while waiting cancels the runs.")
    ] = False,
    ray: Ray = False,
    cpus_per_task: Cpus = None,
    gpus_per_task: Gpus = None,
    junit: Junit = None,
    github_summary: GithubSummary = False,
    json: Json = False,
) -> None:
    """Bring tasks up to date: train, evaluate, register and let the gates decide.

    The exit code is the outcome's (promoted 0, rejected 20, awaiting_approval 30, invalid 40, diverged 41, unavailable 50;
    unchanged that of the version that stands); with several specs the largest. With --wait also: cancelled 60, timed_out 124.
    """
    from softprompt_core.errors import InvalidInput

    remote = deployment or deployment_name is not None
    for option, is_given, needed, needed_is_given in (
        ("--wait", wait, "--deployment", remote),
        ("--timeout", timeout is not None, "--wait", wait),
        ("--cancel-on-interrupt", cancel_on_interrupt, "--wait", wait),
    ):
        if is_given and not needed_is_given:
            raise InvalidInput(f"goes with {needed} only", where=option, do=f"add {needed}")
    ray = wants_ray(ray, cpus_per_task, gpus_per_task)
    if remote and ray:
        do = "put `parameters: {ray: true}` in the environment file (docs/ray.md)"
        raise InvalidInput("how a deployment runs is said where it is deployed", where="--ray", do=do)
    if deployment_name is not None and len(specs) > 1 and "{task}" not in deployment_name:
        do = "give one spec, or put {task} in the name"
        raise InvalidInput("a deployment belongs to one task", where="--deployment-name", do=do)
    seconds = None if timeout is None else _seconds(timeout)

    def lifecycles() -> list[LifecycleResult]:
        if not remote:
            return _run_here(specs, force=force, dry_run=dry_run, ray=ray)
        tasks = _tasks(specs)
        from flows.remote import Request

        request = Request(deployment_name or "{task}", force, dry_run, wait, seconds, cancel_on_interrupt)
        return _run_deployments(tasks, request)

    conclude(lifecycles, specs, Reports(json, strict, junit, github_summary), dry_run=dry_run, remote=remote)


def fleet(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of spec files.", show_default=False)],
    force: Force = False,
    strict: Strict = False,
    dry_run: DryRun = False,
    ray: Ray = False,
    cpus_per_task: Cpus = None,
    gpus_per_task: Gpus = None,
    junit: Junit = None,
    github_summary: GithubSummary = False,
    json: Json = False,
) -> None:
    """Bring every task of a folder up to date on one loaded base; a bad spec does not stop the others."""
    from softprompt_core.spec import spec_files

    specs = spec_files(folder)
    ray = wants_ray(ray, cpus_per_task, gpus_per_task)
    reports = Reports(json, strict, junit, github_summary)
    conclude(lambda: _run_here(specs, force=force, dry_run=dry_run, ray=ray), specs, reports, dry_run=dry_run)


def demo(force: Force = False, json: Json = False) -> None:
    """Run three small tasks on the bundled base model, from data to champion."""
    from importlib.resources import files

    from softprompt_core.spec import spec_files

    folder = Path(str(files("deployments"))) / "demo"  # read as data: flows import nothing from deployments
    if not json:
        print("Three demo tasks on the bundled base model: data, training, evaluation, registration, gates.", file=sys.stderr)
    specs = spec_files(folder)
    conclude(lambda: _run_here(specs, force=force), specs, Reports(json))


def _run_here(specs: Sequence[Path], *, force: bool, dry_run: bool = False, ray: bool = False) -> list[LifecycleResult]:
    """Run the flows; a mistake in a single spec is found before Prefect starts, and so is that there is nothing to do."""
    from softprompt_core.spec import load_spec

    spec = load_spec(specs[0]) if len(specs) == 1 else None
    store, known = answering_store(), []
    if not force and not ray:
        from flows.nothing_to_do import conclude_unchanged, unchanged_so_far

        known = unchanged_so_far(specs, store, dry_run=dry_run)
        if len(known) == len(specs):
            return conclude_unchanged(known)
    start_prefect()
    from flows.fleet import run_fleet, run_one

    if spec is not None:
        return [run_one(spec, force=force, dry_run=dry_run, ray=ray)]
    return run_fleet(list(specs), known, force=force, dry_run=dry_run, ray=ray)


def _tasks(specs: Sequence[Path]) -> list[str]:
    """Names of the tasks whose deployments are started: all that specs say there, but a wrong one starts nothing."""
    from flows.environment import prepare_environment
    from softprompt_core.spec import load_spec

    tasks = [load_spec(path).name for path in specs]
    prepare_environment()
    return tasks


def _run_deployments(tasks: Sequence[str], request: Request) -> list[LifecycleResult]:
    from flows.remote import run_remotely

    return run_remotely(tasks, request, say=lambda message: print(message, file=sys.stderr, flush=True))


def _seconds(text: str) -> float:
    """Seconds of ``90s``, ``30m``, ``1h30m``; a bare number is seconds."""
    from softprompt_core.errors import InvalidInput

    if re.fullmatch(r"\d+", text):
        return float(text)
    if not re.fullmatch(r"(\d+h)?(\d+m)?(\d+s)?", text) or not text:
        raise InvalidInput(f"`{text}` is no length of time", where="--timeout", do="write it as in 90s, 30m or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)([hms])", text))
