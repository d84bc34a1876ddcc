"""``softprompt config``: which settings are in force, and where each comes from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.running import Json

app = typer.Typer(no_args_is_help=True, help="Settings of this machine.", rich_markup_mode=None)

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings file in place of softprompt.toml.", show_default=False)
]
Profile = Annotated[
    str | None,
    typer.Option("--profile", metavar="NAME", help="solo, team, or another profile of the settings file.", show_default=False),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting for this command; may be repeated.", show_default=False),
]


def take(config: Path | None, profile: str | None, pairs: list[str] | None) -> None:
    """Hand the options that stand before a command to the settings; without any, nothing is imported."""
    if config is None and profile is None and not pairs:
        return
    from softprompt_core import settings
    from softprompt_core.errors import InvalidInput

    given: dict[str, str] = {}
    for pair in pairs or ():
        name, sign, value = pair.partition("=")
        if not sign:
            raise InvalidInput(f"`{pair}` has no `=`", where="--set", do="write --set KEY=VALUE")
        given[name.strip()] = value
    if config is not None:
        given["config"] = str(config.absolute())  # child processes may stand elsewhere
    if profile is not None:
        given["profile"] = profile
    settings.give(given)


@app.command()
def show(json: Json = False) -> None:
    """Every setting, its value with secrets blotted out, and where it comes from."""
    from dataclasses import asdict

    from flows.cli.output import print_json, print_table
    from softprompt_core import settings

    found, strangers = settings.explain(), settings.strangers()
    if json:
        print_json([asdict(one) for one in found])
    else:
        rows = [(one.name, one.value or "–", f"{one.source}: {one.place}" if one.place else one.source) for one in found]
        print_table(("setting", "value", "from"), rows)
    for complaint in strangers:
        print(f"! {complaint}", file=sys.stderr)
