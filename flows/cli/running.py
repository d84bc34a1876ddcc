"""Commands that run lifecycles: ``demo``, ``run``, ``fleet``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from softprompt_core.stages.result import LifecycleResult

Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON and nothing else on stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Run even if nothing has changed since the last decided version.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit 10 when nothing has changed.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Train, evaluate and decide, but register nothing and move no alias; MLflow is only read."),
]
Junit = Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML, one test case a task.")]
Summary = Annotated[
    bool,
    typer.Option("--github-summary", help="Append a summary to the file that GITHUB_STEP_SUMMARY names, as in a GitHub job."),
]
Ray = Annotated[
    bool,
    typer.Option("--ray", help="Spread the work over Ray: the cluster of RAY_ADDRESS, or processes on this machine."),
]
Cpus = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Implies --ray: cores of a worker. Default: ray_cpus_per_task.")
]
Gpus = Annotated[
    float | None, typer.Option(metavar="N", min=0, help="Implies --ray: GPUs of a worker. Default: ray_gpus_per_task.")
]
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
        bool, typer.Option("--cancel-on-interrupt", help="Ctrl-C or SIGTERM while waiting cancels the runs.")
    ] = False,
    ray: Ray = False,
    cpus_per_task: Cpus = None,
    gpus_per_task: Gpus = None,
    junit: Junit = None,
    github_summary: Summary = False,
    json: Json = False,
) -> None:
    """Bring tasks up to date: train, evaluate, register and let the gates decide.

    The exit code is the outcome's (promoted and unchanged 0, rejected 20, awaiting_approval 30, invalid 40, diverged 41,
    unavailable 50); with several specs the largest. With --wait also: cancelled 60, timed_out 124.
    """
    from softprompt_core.errors import InvalidInput

    remote = deployment or deployment_name is not None
    for option, given, needs, there in (
        ("--wait", wait, "--deployment", remote),
        ("--timeout", timeout is not None, "--wait", wait),
        ("--cancel-on-interrupt", cancel_on_interrupt, "--wait", wait),
    ):
        if given and not there:
            raise InvalidInput(f"goes with {needs} only", where=option, do=f"add {needs}")
    ray = wants_ray(ray, cpus_per_task, gpus_per_task)
    if remote and ray:
        raise InvalidInput(
            "how a deployment runs is said where it is deployed",
            where="--ray",
            do="put `parameters: {ray: true}` in the environment file (docs/ray.md)",
        )
    if deployment_name is not None and len(specs) > 1 and "{task}" not in deployment_name:
        raise InvalidInput(
            "a deployment belongs to one task", where="--deployment-name", do="give one spec, or put {task} in the name"
        )
    seconds = None if timeout is None else _seconds(timeout)

    def elsewhere() -> list[LifecycleResult]:
        return _remote(
            specs,
            deployment_name,
            force=force,
            dry_run=dry_run,
            wait=wait,
            timeout_s=seconds,
            cancel_on_interrupt=cancel_on_interrupt,
        )

    def here() -> list[LifecycleResult]:
        return _local(specs, force=force, dry_run=dry_run, ray=ray)

    conclude(
        elsewhere if remote else here,
        specs,
        strict=strict,
        json=json,
        dry_run=dry_run,
        junit=junit,
        github_summary=github_summary,
        remote=remote,
    )


def fleet(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of spec files.", show_default=False)],
    force: Force = False,
    strict: Strict = False,
    dry_run: DryRun = False,
    ray: Ray = False,
    cpus_per_task: Cpus = None,
    gpus_per_task: Gpus = None,
    junit: Junit = None,
    github_summary: Summary = False,
    json: Json = False,
) -> None:
    """Bring every task of a folder up to date on one loaded base; a bad spec does not stop the others."""
    from softprompt_core.spec import spec_files

    specs = spec_files(folder)
    ray = wants_ray(ray, cpus_per_task, gpus_per_task)

    def here() -> list[LifecycleResult]:
        return _local(specs, force=force, dry_run=dry_run, ray=ray)

    conclude(here, specs, strict=strict, json=json, dry_run=dry_run, junit=junit, github_summary=github_summary)


def demo(force: Force = False, json: Json = False) -> None:
    """Run three small tasks on the bundled base model, from data to champion."""
    from importlib.resources import files

    from softprompt_core.spec import spec_files

    folder = Path(str(files("deployments"))) / "demo"  # read as data: flows import nothing from deployments
    if not json:
        print("Three demo tasks on the bundled base model: data, training, evaluation, registration, gates.", file=sys.stderr)
    specs = spec_files(folder)
    conclude(lambda: _local(specs, force=force), specs, json=json)


def conclude(
    lifecycles: Callable[[], list[LifecycleResult]],
    specs: Sequence[Path],
    *,
    strict: bool = False,
    json: bool,
    dry_run: bool = False,
    junit: Path | None = None,
    github_summary: bool = False,
    remote: bool = False,
) -> None:
    """Run, print, write what CI reads, and exit with the outcome's code."""
    from flows.cli import ci_reports
    from flows.cli.output import print_json, print_outcome, print_results
    from softprompt_core.errors import SoftpromptError
    from softprompt_core.stages.record import stores
    from softprompt_core.stages.result import LifecycleResult, exit_code

    summary = ci_reports.summary_file() if github_summary else None
    for option, file in (("--junit", junit), ("--github-summary", summary)):
        if file is not None:
            ci_reports.require_writable(file, option)
    try:
        results = lifecycles()
    except SoftpromptError as error:
        results = [LifecycleResult(path.stem, error.outcome, str(error), dry_run=dry_run) for path in specs]
    if json:
        print_json([result.to_json() for result in results])
    else:
        print_results(results)
        if not remote and any(result.run_url for result in results) and not stores().tracking_uri.startswith("http"):
            print("Review them in the MLflow pages: softprompt ui")
        print_outcome(results)
    if junit is not None:
        junit.write_text(ci_reports.junit(results), encoding="utf-8")
    if summary is not None:
        with summary.open("a", encoding="utf-8") as page:
            page.write(ci_reports.github_summary(results))
    raise typer.Exit(exit_code(results, strict=strict))


def _local(specs: Sequence[Path], *, force: bool, dry_run: bool = False, ray: bool = False) -> list[LifecycleResult]:
    """Run the flows; a mistake in a single spec and a store that is down are found before Prefect starts, which takes seconds."""
    from flows.environment import prepare_environment
    from softprompt_core.spec import load_spec

    single = load_spec(specs[0]) if len(specs) == 1 else None
    prepare_environment()
    from softprompt_core.stages import record

    record.client()
    from flows.fleet import run_fleet, run_one

    with prefect_starts():
        if single is not None:
            return [run_one(single, force=force, dry_run=dry_run, ray=ray)]
        return run_fleet(list(specs), force=force, dry_run=dry_run, ray=ray)


@contextmanager
def prefect_starts() -> Iterator[None]:
    """Prefect's own server that does not come up in time, as an error with words."""
    from softprompt_core.errors import Unavailable

    try:
        yield
    except RuntimeError as error:
        if "Prefect API server" not in str(error):
            raise
        raise Unavailable(
            "Prefect's own server did not start in time",
            do="try again, or run `prefect server start` and set PREFECT_API_URL",
        ) from None


def _remote(
    specs: Sequence[Path],
    deployment: str | None,
    *,
    force: bool,
    dry_run: bool,
    wait: bool,
    timeout_s: float | None,
    cancel_on_interrupt: bool,
) -> list[LifecycleResult]:
    """Start deployments; the specs here only name the tasks, but a wrong one starts nothing."""
    from flows.environment import prepare_environment
    from softprompt_core.spec import load_spec

    tasks = [load_spec(path).name for path in specs]
    prepare_environment()
    from flows.remote import Interrupted, run_remotely

    try:
        return run_remotely(
            tasks,
            deployment=deployment or "{task}",
            force=force,
            dry_run=dry_run,
            wait=wait,
            timeout_s=timeout_s,
            cancel_on_interrupt=cancel_on_interrupt,
            say=lambda words: print(words, file=sys.stderr, flush=True),
        )
    except Interrupted as interrupted:
        print(f"interrupted; {interrupted}", file=sys.stderr)
        raise typer.Exit(130) from None


def wants_ray(ray: bool, cpus: int | None, gpus: float | None) -> bool:
    """Whether to spread the work; shares that the command line names become settings."""
    from softprompt_core import settings

    given = {"ray_cpus_per_task": cpus, "ray_gpus_per_task": gpus}
    settings.give({name: str(value) for name, value in given.items() if value is not None})
    return ray or any(value is not None for value in given.values())


def _seconds(text: str) -> float:
    """Seconds of ``90s``, ``30m``, ``1h30m``; a bare number is seconds."""
    from softprompt_core.errors import InvalidInput

    if re.fullmatch(r"\d+", text):
        return float(text)
    if not re.fullmatch(r"(\d+h)?(\d+m)?(\d+s)?", text) or not text:
        raise InvalidInput(f"`{text}` is no length of time", where="--timeout", do="write it as in 90s, 30m or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)([hms])", text))
