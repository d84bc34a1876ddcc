"""``softprompt registry``: what is registered, decisions about it, and copies between environments."""

from __future__ import annotations

import typer

from flows.cli.registry import compare, copy, decide, look

app = typer.Typer(no_args_is_help=True, help="Registered soft prompts: look at them, decide about them.", rich_markup_mode=None)
app.command("list")(look.list_)
app.command()(look.show)
app.command()(look.history)
app.command()(look.pending)
app.command()(decide.approve)
app.command()(decide.reject)
app.command()(decide.promote)
app.command()(decide.rollback)
app.command()(decide.prune)
app.command()(compare.compare)
app.command()(copy.copy)
