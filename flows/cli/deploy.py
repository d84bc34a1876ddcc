"""The command ``deploy``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Json


def deploy(
    environment: Annotated[
        str,
        typer.Option(
            "--environment",
            "-e",
            metavar="NAME",
            help="A file in deployments/environments, like dev, staging or prod; or a path.",
        ),
    ],
    targets: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[DIR|SPEC]...", help="Folders of specs, and spec files. Default: the environment's `specs`."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    json: Json = False,
) -> None:
    """Make the Prefect server match specs and environment: work pool, schedules, limits, automation.

    One deployment a spec. A spec that was removed from a folder loses its deployment. What this command did not make is never
    touched. Doing it again changes nothing.

    Exits 0; 40 for a bad spec or environment file (nothing is changed then), 50 when the Prefect server does not answer.
    """
    from flows.cli.output import print_json, print_table
    from flows.deploying.environment import load_environment

    name, settings, template = load_environment(environment)
    _require_server()
    from flows.deploying.apply import deploy as apply

    with _errors_of_server(name):
        changes = apply(name, settings, template, targets or [], root=Path.cwd(), dry_run=dry_run)
    if json:
        print_json({"environment": name, "dry_run": dry_run, "changes": [asdict(change) for change in changes]})
        return
    print_table(
        ("what", "name", "would be" if dry_run else "is", "detail"),
        [(change.kind, change.name, change.action, change.detail) for change in changes],
    )
    counts = Counter(change.action for change in changes)
    actions = ", ".join(
        f"{counts[action]} {action}" for action in ("created", "updated", "removed", "unchanged") if counts[action]
    )
    print(f"{name}: {actions}{' (dry run: nothing was changed)' if dry_run else ''}")
    if not dry_run:
        print(f"A worker runs them: prefect worker start --pool {settings.work_pool.name}")


def _require_server() -> None:
    """A server that ends with this command could keep no schedule."""
    from flows.environment import prepare_environment
    from softprompt_core.errors import Unavailable

    prepare_environment()
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        raise Unavailable(
            "schedules need a Prefect server that keeps running, and none is named",
            where="PREFECT_API_URL",
            do="run `prefect server start`, then set PREFECT_API_URL, for instance to http://127.0.0.1:4200/api",
        )


@contextmanager
def _errors_of_server(environment: str) -> Iterator[None]:
    """What the Prefect server refuses, and its failures, as errors that say what to do."""
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError

    from softprompt_core.errors import InvalidInput, Unavailable

    again = "run the same command again; what is done already stays"
    try:
        yield
    except PrefectHTTPStatusError as error:
        message = " ".join(error.response.text.split())[:500]
        if error.response.status_code < 500:
            do = f"correct `job_variables` or the pool; {again}"
            raise InvalidInput(f"the Prefect server refuses it: {message}", where=f"environment {environment}", do=do) from None
        do = f"look at its log; {again}"
        raise Unavailable(f"the Prefect server failed: {message}", where="PREFECT_API_URL", do=do) from None
    except httpx.TransportError as error:
        message = f"the Prefect server stopped answering ({type(error).__name__})"
        raise Unavailable(message, where="PREFECT_API_URL", do=again) from None
