"""The entry point: terminal and signals first, since a command may be interrupted while it loads; then the command."""

from __future__ import annotations

from flows import stopping
from flows.cli import terminal


def main() -> None:
    """Run the command that ``sys.argv`` names, and exit."""
    terminal.prepare()
    try:
        stopping.handle_signals()
        from flows.cli.app import run_command

        run_command()
    except stopping.Stopped as stopped:
        stopping.end(stopped)
    finally:
        stopping.end_at_once_from_now_on()
