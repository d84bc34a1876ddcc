"""A base that the fast path does not fit: a whole task still runs, and its run says why it was slow."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest

from softprompt_core.forward import engine
from softprompt_core.lifecycle.resolve import resolve
from softprompt_core.lifecycle.tokenized import release
from softprompt_core.lifecycle.tracking.curves import log_training
from softprompt_core.lifecycle.tracking.run import open_run
from softprompt_core.lifecycle.train import train
from softprompt_core.spec import load_spec
from softprompt_core.store import tags
from softprompt_core.store.connection import Store
from tests.toy_task import write_toy


def test_training_goes_on_row_by_row_and_the_run_says_why(
    taught_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {"max_steps": 3, "eval_every": 3, "batch_size": 4}
    path = write_toy(tmp_path, taught_base, name="slow", prompt={"length": 3, "position": "prefix"}, training=short)
    task = resolve(load_spec(path))
    (fast,) = train(task)

    release()
    task.workspace.checkpoint(0).unlink()
    task.workspace.training(0).unlink()
    monkeypatch.setattr(engine, "_known_capabilities", weakref.WeakKeyDictionary())

    # As the code of an architecture does that takes no cache of keys and values.
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("no cache here")

    monkeypatch.setattr(engine, "run", refuse)
    with pytest.warns(RuntimeWarning, match="refuses the cached path.*no cache here"):
        (slow,) = train(task)
    assert slow.loss == pytest.approx(fast.loss, rel=1e-4)
    store = Store.connect()
    run = open_run(task, store)
    log_training(task, store, run, [slow], slow)
    assert "no cache here" in store.client.get_run(run.id).data.tags[tags.SLOW_PATH]
    release()
