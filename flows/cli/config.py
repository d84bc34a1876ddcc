"""``softprompt config``: which settings are in force, and where each comes from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Json

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


def override_settings(config: Path | None, profile: str | None, pairs: list[str] | None) -> None:
    """Hand the options that stand before a command to the settings; without any, nothing is imported."""
    if config is None and profile is None and not pairs:
        return
    from softprompt_core import settings
    from softprompt_core.errors import InvalidInput

    overrides: dict[str, str] = {}
    for pair in pairs or ():
        name, sign, value = pair.partition("=")
        if not sign:
            raise InvalidInput(f"`{pair}` has no `=`", where="--set", do="write --set KEY=VALUE")
        overrides[name.strip()] = value
    if config is not None:
        overrides["config"] = str(config.absolute())  # child processes may stand elsewhere
    if profile is not None:
        overrides["profile"] = profile
    settings.override(overrides)


@app.command()
def show(json: Json = False) -> None:
    """Every setting, its value with secrets blotted out, and where it comes from."""
    from dataclasses import asdict

    from flows.cli.output import NONE, print_json, print_table
    from softprompt_core import settings

    entries = settings.explain()
    if json:
        print_json([asdict(entry) for entry in entries])
    else:
        rows = [(e.name, e.value or NONE, f"{e.source}: {e.place}" if e.place else e.source) for e in entries]
        print_table(("setting", "value", "from"), rows)
    for complaint in settings.unknown_variables():
        print(f"! {complaint}", file=sys.stderr)
