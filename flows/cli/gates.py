"""``softprompt gates``: why a version was promoted or turned down."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.options import Json, Name

app = typer.Typer(no_args_is_help=True, help="Decisions of the gates: explain.", rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Keeps ``explain`` a command of its own: an application with a single command would take its place."""


@app.command()
def explain(
    name: Name,
    version: Annotated[
        int | None, typer.Argument(help="Default: the newest version that was decided on.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Decide again on the stored evidence of a version, and print the reasons. Exits 20 if the verdict is not the stored one."""
    from flows.cli.output import print_json
    from softprompt_core.decisions.replay import explain
    from softprompt_core.errors import InvalidInput, Outcome
    from softprompt_core.store import versions
    from softprompt_core.store.connection import Store

    store = Store.connect()
    if version is None:
        newest = versions.last_decided(store, name)
        if newest is None:
            raise InvalidInput("no version was decided on", where=name, do="`softprompt registry list` shows the tasks")
        version = newest.version
    explanation = explain(store, name, version)
    if json:
        print_json(explanation.model_dump(mode="json"))
    else:
        print(f"{name} version {version}: {explanation.stored.outcome.value}")
        print(explanation.replayed.to_text())
        for seed in explanation.seeds:
            test = "not scored" if seed.test is None else f"{seed.test:.4g}"
            chosen = ", chosen" if seed.chosen else ""
            print(f"  seed {seed.seed}: validation {seed.validation:.4g}, test {test}, best at step {seed.best_step}{chosen}")
        for line in (*explanation.notes, *explanation.differences):
            print(line)
        print("same verdict" if explanation.same_verdict else "another verdict")
    if not explanation.same_verdict:
        raise typer.Exit(Outcome.REJECTED.exit_code)
