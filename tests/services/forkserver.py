"""Runs ``softprompt`` commands in processes forked from this one, which has imported everything; importing takes seconds.

``python -m tests.services.forkserver MODULE...`` imports the modules. Then one request a line on stdin, one answer a line on
stdout: the id of the process, or with ``wait`` its exit code. ``tests.services.commands`` is the other end.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import threading
import traceback
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import Any


def run_command(request: dict[str, Any]) -> None:
    folder = Path(request["folder"])
    os.setsid()
    # Ignored where the tests were started by `nohup` or in the background; commands leave that so.
    for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(which, signal.default_int_handler if which == signal.SIGINT else signal.SIG_DFL)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.update(request["environment"])
    os.chdir(request["current_folder"])
    for name, arguments in request["before"]:
        resolve_name(name)(*arguments)
    from flows.cli import main

    sys.argv = ["softprompt", *request["arguments"]]
    main()


def serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            sys.stdout.flush()
            answer = os.fork()
            if answer == 0:
                _run_and_exit(request)
        print(json.dumps(answer), flush=True)


def _run_and_exit(request: dict[str, Any]) -> None:
    """Run a command in this process, a fork, and end it as an interpreter ends; nothing of the server's own must run."""
    code = 1
    try:
        run_command(request)
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    for module in sys.argv[1:]:
        import_module(module)
    serve()
