"""A base that the fast path does not fit: a whole task still runs, and the record says why it was slow."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest

from softprompt_core.forward import engine
from softprompt_core.registry import tags
from softprompt_core.spec import load_spec
from softprompt_core.stages import curves, record, reporting
from softprompt_core.stages.encoded import release
from softprompt_core.stages.inputs import gather
from softprompt_core.stages.training import train_seeds
from tests.toy_task import write_toy


def test_training_goes_on_row_by_row_and_the_run_says_why(
    taught_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {"max_steps": 3, "eval_every": 3, "batch_size": 4}
    path = write_toy(tmp_path, taught_base, name="slow", prompt={"length": 3, "position": "prefix"}, training=short)
    spec = load_spec(path)
    inputs = gather(spec)
    (fast,) = train_seeds(spec, inputs)

    release()
    inputs.workspace.checkpoint(0).unlink()
    inputs.workspace.training(0).unlink()
    monkeypatch.setattr(engine, "_found", weakref.WeakKeyDictionary())

    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("no cache here")

    monkeypatch.setattr(engine, "run", refuse)
    with pytest.warns(RuntimeWarning, match="refuses the cached path.*no cache here"):
        (slow,) = train_seeds(spec, inputs)
    assert slow.loss == pytest.approx(fast.loss, rel=1e-4)
    client = record.client()
    _, run_id = reporting.open_run(client, spec, inputs, None)
    curves.log_training(client, spec, run_id, slow)
    assert "no cache here" in client.get_run(run_id).data.tags[tags.SLOW_PATH]
    release()
