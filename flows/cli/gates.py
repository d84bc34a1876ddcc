"""``softprompt gates``: why a version was promoted or turned down."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.running import Json

Name = Annotated[str, typer.Argument(help="The task's name.", show_default=False)]
Decided = Annotated[int | None, typer.Argument(help="Default: the newest version that was decided on.", show_default=False)]
app = typer.Typer(no_args_is_help=True, help="Decisions of the gates: explain.", rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Keeps ``explain`` a command of its own: an application with a single command would take its place."""


@app.command()
def explain(
    name: Annotated[str, typer.Argument(help="The task's name.", show_default=False)],
    version: Annotated[
        int | None, typer.Argument(help="Default: the newest version that was decided on.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Decide again on the stored evidence of a version, and print the reasons. Exits 20 if the verdict is not the stored one."""
    from flows.cli.output import print_json
    from softprompt_core import registry
    from softprompt_core.errors import InvalidInput, Outcome
    from softprompt_core.stages import record
    from softprompt_core.stages.explaining import explain

    client = record.client()
    if version is None:
        newest = registry.last_decided(client, name)
        if newest is None:
            raise InvalidInput("no version was decided on", where=name, do="`softprompt registry list` shows the tasks")
        version = newest.version
    found = explain(client, name, version)
    if json:
        print_json(found.to_json())
    else:
        print(f"{name} version {version}: {found.stored.outcome.value}")
        print(found.replayed.to_text())
        for seed in found.evidence.seeds:
            test = "not scored" if seed.test is None else f"{seed.test:.4g}"
            chosen = ", chosen" if seed.chosen else ""
            print(f"  seed {seed.seed}: validation {seed.validation:.4g}, test {test}, best at step {seed.best_step}{chosen}")
        for line in (*found.notes, *found.differences):
            print(line)
        print("same verdict" if found.same else "another verdict")
    if not found.same:
        raise typer.Exit(Outcome.REJECTED.exit_code)
