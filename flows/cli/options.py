"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Name = Annotated[str, typer.Argument(help="The task's name.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON and nothing else on stdout.")]

# Decisions
By = Annotated[str, typer.Option(help="Who decides; stands in the ledger.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why; stands in the ledger.", show_default=False)]

# Lifecycles
Force = Annotated[bool, typer.Option("--force", help="Run even if nothing has changed since the last decided version.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Train, evaluate and decide, but register nothing and move no alias; MLflow is only read."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit 10 in place of 0 when nothing has changed.")]
Junit = Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML, one test case a task.")]
GithubSummary = Annotated[
    bool,
    typer.Option("--github-summary", help="Append a summary to the file that GITHUB_STEP_SUMMARY names, as in a GitHub job."),
]

# Ray
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


def wants_ray(ray: bool, cpus: int | None, gpus: float | None) -> bool:
    """Whether to spread the work; shares that the command line names become settings."""
    from softprompt_core import settings

    shares = {"ray_cpus_per_task": cpus, "ray_gpus_per_task": gpus}
    settings.override({name: str(share) for name, share in shares.items() if share is not None})
    return ray or any(share is not None for share in shares.values())
