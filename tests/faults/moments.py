"""Hold a command at a moment: right before a step of its work it writes the file ``held`` and waits for the file ``go``."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Literal

Moment = Literal["training", "upload", "registration", "half registered", "decision", "promotion"]

HELD_STEP = 6
"""The step of a training at which it is held: a checkpoint of the step before is written, validation checks follow."""


def hold_at(moment: Moment, folder: str) -> None:
    """Arrange for this process to be held; ``folder`` is for the two files.

    Moments are boundaries between steps of the code: the same in every run.
    """
    from mlflow import MlflowClient
    from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

    from softprompt_core.store import run_contents
    from softprompt_core.store.ledger.lock import DecisionLock
    from softprompt_core.training import checkpoint

    files = count(1)

    def is_of_the_task(_: object, name: str, *__: object, **___: object) -> bool:
        return not name.startswith("_")  # the versions of that model are tickets of the lock

    def is_third_file(to: HttpArtifactRepository, *_: object) -> bool:
        return "/models/m-" in to.artifact_uri and next(files) == 3

    steps: dict[Moment, tuple[Any, str, Callable[..., bool]]] = {
        "training": (checkpoint, "save", lambda path, state, *_: state.step == HELD_STEP),
        "upload": (HttpArtifactRepository, "log_artifact", is_third_file),
        "registration": (MlflowClient, "create_model_version", is_of_the_task),
        "half registered": (MlflowClient, "set_model_version_tag", is_of_the_task),
        "decision": (run_contents, "log_table", lambda *_: True),
        "promotion": (DecisionLock, "heartbeat", lambda _, step: step == "alias previous"),
    }
    owner, name, is_the_step = steps[moment]
    function, was_held = getattr(owner, name), False

    def held(*args: Any, **kwargs: Any) -> Any:
        nonlocal was_held
        if not was_held and is_the_step(*args, **kwargs):
            was_held = True
            Path(folder, "held").touch()
            while not Path(folder, "go").exists():
                time.sleep(0.02)
        return function(*args, **kwargs)

    setattr(owner, name, held)
