"""The ``softprompt`` command line. Heavy modules load inside the commands, so that ``--help`` answers at once."""

from flows.cli.entry import main

__all__ = ["main"]
