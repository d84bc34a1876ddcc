"""Work for the workers of a test; it leaves its marks in a folder."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from prefect import flow, runtime

from softprompt_core.errors import Diverged
from softprompt_core.store import runs
from softprompt_core.store.connection import Store
from tasks.ray_pool import Item, fan_out


def work(folder: Path, name: str, how: str) -> tuple[Any, int, str | None]:
    """``name``, the process and the flow run. ``how`` says what happens: it dies once or always, raises, or drives other work."""
    with (folder / name).open("a") as mark:
        mark.write(f"{os.getpid()}\n")
    first = len((folder / name).read_text().splitlines()) == 1
    if how == "diverges":
        raise Diverged("no finite prompt", where=name)
    if how == "has a mistake":
        raise LookupError("an error of ours")
    if how == "dies once" and first:
        store = Store.connect()
        runs.start_run(store, runs.experiment_id(store, name), "first", {})
        _dies()
    if how == "always dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "drives":
        items = [Item(f"{name} {number}", "c", (folder, f"{name} {number}", "")) for number in (1, 2, 3)]
        return fan_out(work, items, take_part=True), os.getpid(), runtime.flow_run.id
    time.sleep(0.5)
    print(f"{name} is done")
    return name, os.getpid(), runtime.flow_run.id


@flow(name="dies")
def _dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
