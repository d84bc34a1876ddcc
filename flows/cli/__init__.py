"""The ``softprompt`` command line. Heavy modules load inside the commands, so that ``--help`` answers at once."""

from flows.cli.app import app, main

__all__ = ["app", "main"]
