"""The application: commands, and how errors and exit codes leave it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

import typer

from flows.cli import check, config, deploy, doctor, gates, init, monitor, registry, run, status, sweep

if TYPE_CHECKING:
    from softprompt_core.errors import SoftpromptError

app = typer.Typer(
    name="softprompt",
    help="Train, gate and register soft prompts: many tasks on one frozen language model.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.command()(run.demo)
app.command()(init.init)
app.command()(check.check)
app.command()(run.run)
app.command()(run.fleet)
app.command()(sweep.sweep)
app.command()(deploy.deploy)
app.command()(monitor.monitor)
app.command()(monitor.revalidate)
app.command()(status.status)
app.add_typer(registry.app, name="registry")
app.add_typer(gates.app, name="gates")
app.add_typer(config.app, name="config")
app.command()(doctor.ui)
app.command()(doctor.doctor)
app.command()(doctor.schema)


@app.callback(invoke_without_command=True)
def _root(
    config_file: config.Config = None,
    profile: config.Profile = None,
    pairs: config.Set = None,
    version: bool = typer.Option(False, "--version", help="Print the version and end."),
) -> None:
    if version:
        from softprompt_core.version import __version__

        print(__version__)
        raise typer.Exit()
    config.override_settings(config_file, profile, pairs)


def run_command() -> None:
    """A user's mistake is one message and an exit code, never a traceback."""
    from softprompt_core.errors import SoftpromptError

    try:
        app()
    except SoftpromptError as error:
        _exit(error)
    except Exception as error:
        _exit(_unavailable(error))


def _exit(error: SoftpromptError) -> NoReturn:
    print(f"{error.outcome.value}: {error}", file=sys.stderr)
    sys.exit(error.outcome.exit_code)


def _unavailable(error: Exception) -> SoftpromptError:
    """A full disk, or an MLflow that stopped answering, in words; anything else is raised as it is."""
    from softprompt_core.store import failures
    from softprompt_core.store.addresses import Addresses

    unavailable = failures.unavailable(error, Addresses.from_settings())
    if unavailable is None:
        raise error
    return unavailable
