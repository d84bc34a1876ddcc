"""Runs ``softprompt`` commands in processes forked from this one, which has imported everything; importing takes seconds.

A command may be held at a moment: right before a step of its work it writes the file ``held`` and waits for the file ``go``.
One request a line on stdin, one answer a line on stdout.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any


def hold(folder: Path) -> None:
    (folder / "held").touch()
    while not (folder / "go").exists():
        time.sleep(0.02)


def before(owner: Any, name: str, step: Callable[..., bool], folder: Path) -> None:
    """Hold right before the first call of ``owner.name`` that ``step`` says yes to."""
    wrapped, done = getattr(owner, name), []

    def held(*args: Any, **kwargs: Any) -> Any:
        if not done and step(*args, **kwargs):
            done.append(True)
            hold(folder)
        return wrapped(*args, **kwargs)

    setattr(owner, name, held)


def arm(moment: str, folder: Path) -> None:
    """Moments are boundaries between what the code does, so that they come at the same place in every run."""
    from mlflow import MlflowClient
    from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

    from softprompt_core import registry
    from softprompt_core.registry import delivery
    from softprompt_core.registry.turns import Turn
    from softprompt_core.training import checkpoint, loop

    loop._SAVE_SECONDS = 0.0  # a training of a second comes to a checkpoint too
    delivery._EVERY_S = 0.1
    files = count(1)

    def of_the_task(_: object, name: str, *__: object, **___: object) -> bool:
        return not name.startswith("_")  # those are tickets

    steps: dict[str, tuple[Any, str, Callable[..., bool]]] = {
        # After some checkpoints, with validation checks before and behind it.
        "training": (checkpoint, "save", lambda path, state, *_: state.step == 25),
        # Two of a version's files have arrived.
        "upload": (HttpArtifactRepository, "log_artifact", lambda to, *_: "/models/m-" in to.artifact_uri and next(files) == 3),
        # All files have arrived, and there is no version yet.
        "registration": (MlflowClient, "create_model_version", of_the_task),
        # There is a version, not yet marked as whole.
        "half registered": (MlflowClient, "set_model_version_tag", of_the_task),
        # It is registered, and nothing is decided.
        "decision": (registry, "log_table", lambda *_: True),
        # The alias has moved, and the ledger does not say so yet.
        "promotion": (Turn, "confirm", lambda _, step: step == "alias previous"),
    }
    owner, name, wanted = steps[moment]
    before(owner, name, wanted, folder)


def child(request: dict[str, Any]) -> None:
    folder = Path(request["folder"])
    os.setsid()
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.update(request["environment"])
    os.chdir(request["here"])
    if request["moment"]:
        arm(request["moment"], folder)
    from flows.cli import main

    sys.argv = ["softprompt", *request["arguments"]]
    main()


def serve() -> None:
    import softprompt_core.stages.gate_report
    import softprompt_core.stages.monitoring  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            sys.stdout.flush()
            answer = os.fork()
            if answer == 0:
                code = 1
                try:
                    child(request)
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
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
