"""Two environments, each a folder with a SQLite store: versions are made in one, copied to the other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from softprompt_core import registry
from softprompt_core.registry import tags
from softprompt_core.spec import load_spec
from softprompt_core.stages import curves, gate_report, record, reporting, trained
from softprompt_core.stages.bundle import Bundle
from softprompt_core.stages.evaluation import evaluate
from softprompt_core.stages.evidence import Evidence
from softprompt_core.stages.fetching import fetch
from softprompt_core.stages.inputs import gather
from softprompt_core.stages.promotion import act, judge
from softprompt_core.stages.registration import register
from softprompt_core.stages.training import train_seeds
from tests.toy_task import write_toy


@contextmanager
def at(home: Path) -> Iterator[None]:
    """This process works with the store in ``home``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTPROMPT_HOME", str(home))
        yield


def new_store(home: Path, blank_database: Path) -> Path:
    home.mkdir(parents=True)
    shutil.copy(blank_database, home / "mlflow.db")
    return home


def make_version(home: Path, folder: Path, base: Path, **spec: Any) -> int:
    """Train, judge and register the next version of a toy task, as a lifecycle does."""
    with at(home):
        path = write_toy(folder, base, **spec)
        read, client = load_spec(path), record.client()
        inputs = gather(read)
        chosen = trained.best(train_seeds(read, inputs))
        champion = registry.by_alias(client, read.name, tags.CHAMPION)
        theirs = (
            registry.download(client, read.name, champion.version, inputs.workspace.folder / "champion") if champion else None
        )
        evidence = Evidence.load(evaluate(read, inputs, Path(chosen.prompt), theirs))
        decision, number = judge(read, evidence), champion.version if champion else None
        experiment, run_id = reporting.open_run(client, read, inputs, None)
        reporting.log_rows(client, run_id, inputs)
        curves.log_training(client, read, run_id, chosen)
        version = register(read, inputs, client, run_id, Path(chosen.prompt), "A version.").version
        reporting.log_evaluation(client, run_id, inputs, evidence, decision)
        gate_report.log_gate_report(
            client,
            read,
            inputs,
            evidence,
            decision,
            chosen,
            experiment=experiment,
            run_id=run_id,
            version=version,
            champion=number,
            prefect_url=None,
        )
        outcome = act(client, read, version, number, decision, run_id, "a test")
        registry.finish(client, run_id, outcome, "A run.")
    return version


def fetched(home: Path, name: str, which: str, to: Path) -> Bundle:
    """What ``fetch_all`` gets from a process of its own."""
    with at(home):
        return fetch(record.client(), record.stores(), name, which, to)
