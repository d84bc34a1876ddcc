"""The application: commands, and how errors and exit codes leave it."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, NoReturn

import typer

from flows.cli import compare, configuring, copying, deploying, gates, inspecting, monitor, registry, running, status, sweeping

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
app.command()(running.demo)
app.command()(running.run)
app.command()(running.fleet)
app.command()(sweeping.sweep)
app.command()(deploying.deploy)
registry.app.command("compare")(compare.compare)
registry.app.command("copy")(copying.copy)
app.command()(monitor.monitor)
app.command()(monitor.revalidate)
app.command()(status.status)
app.add_typer(registry.app, name="registry")
app.add_typer(gates.app, name="gates")
app.add_typer(configuring.app, name="config")
app.command()(inspecting.ui)
app.command()(inspecting.doctor)
app.command()(inspecting.schema)


@app.callback(invoke_without_command=True)
def _root(
    config: configuring.Config = None,
    profile: configuring.Profile = None,
    pairs: configuring.Set = None,
    version: bool = typer.Option(False, "--version", help="Print the version and end."),
) -> None:
    if version:
        from softprompt_core import __version__

        print(__version__)
        raise typer.Exit()
    configuring.take(config, profile, pairs)


def main() -> None:
    """Entry point: a user's mistake is one message and an exit code, never a traceback."""
    from softprompt_core.errors import SoftpromptError

    # The libraries behind a run make two million objects that live as long as the process. Python's collector would go through
    # them again and again, and once more at the end.
    gc.set_threshold(50_000, 20, 100)
    try:
        app()
    except SoftpromptError as error:
        _exit(error)
    except SystemExit as ended:
        if handover := sys.modules.get("flows.handover"):
            handover.leave_if_lost(ended.code if isinstance(ended.code, int) else 0)
        raise
    except KeyboardInterrupt:
        print("interrupted; the next run continues from the last checkpoint", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        _exit(_known(error))
    finally:
        gc.freeze()


def _exit(error: SoftpromptError) -> NoReturn:
    print(f"{error.outcome.value}: {error}", file=sys.stderr)
    sys.exit(error.outcome.exit_code)


def _known(error: Exception) -> SoftpromptError:
    """A full disk, or an MLflow that stopped answering, in words; anything else is raised as it is."""
    from softprompt_core import registry
    from softprompt_core.stages import record

    found = registry.unavailable(error, record.stores())
    if found is None:
        raise error
    return found
