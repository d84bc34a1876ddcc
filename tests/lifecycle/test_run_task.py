"""``run_task`` without Prefect, from a first promotion to a mistake in a spec, and how often it does the expensive things."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from softprompt_core.data import load_task_data, prepare
from softprompt_core.errors import InvalidInput, Outcome
from softprompt_core.evaluation import PredictionMetrics
from softprompt_core.fingerprint import library_fingerprint
from softprompt_core.gates.deciding import apply_gates
from softprompt_core.lifecycle.adopt import left_undecided
from softprompt_core.lifecycle.resolve import resolve
from softprompt_core.lifecycle.run import find_unchanged, run_task
from softprompt_core.lifecycle.steps import Steps
from softprompt_core.spec import load_spec
from softprompt_core.store import runs, tags, versions
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger import entries, pruning
from tests.toy_task import rows, write_rows, write_toy

SHORT = {"max_steps": 4, "eval_every": 2, "batch_size": 16}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], list[tuple[Any, ...]]]:
    """Count the calls of a function, by whichever module it is called."""

    def count(function: Callable[..., Any]) -> list[tuple[Any, ...]]:
        calls: list[tuple[Any, ...]] = []

        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(args)
            return function(*args, **kwargs)

        for name, module in list(sys.modules.items()):
            if name.startswith("softprompt_core"):
                for attribute in [key for key, value in vars(module).items() if value is function]:
                    monkeypatch.setattr(module, attribute, call)
        return calls

    return count


def test_a_task_from_its_first_champion_to_a_mistake(
    taught_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    counted: Callable[[Callable[..., Any]], list[tuple[Any, ...]]],
) -> None:
    decisions, reads, loads = counted(apply_gates), counted(prepare), counted(load_task_data)
    metrics: list[str] = []
    defined = PredictionMetrics.defined

    def count_metrics(self: PredictionMetrics, slice: str | None = None) -> dict[str, float]:
        metrics.extend([self.predictions.scorer] if slice is None else [])
        return defined(self, slice)

    monkeypatch.setattr(PredictionMetrics, "defined", count_metrics)
    path = write_toy(tmp_path, taught_base)

    first = run_task(path)
    assert (first.outcome, first.version, first.exit_code) == (Outcome.PROMOTED, 1, 0), first.reason
    assert first.scores["candidate"] >= 0.8 and first.metric == "accuracy" and len(first.gates) == 3
    assert len(decisions) == 1 and len(reads) == 1 and not loads
    assert sorted(metrics) == ["candidate", "hard_prompt", "majority"]
    store = Store.connect()
    version = versions.get(store, "toy", 1)
    run = store.client.get_run(version.run_id)
    assert (run.info.status, run.data.tags[tags.OUTCOME]) == ("FINISHED", "promoted")
    assert version.description.startswith("Soft prompt for toy: all gates passed.")

    unchanged = run_task(path)
    assert (unchanged.outcome, unchanged.version, unchanged.run_id) == (Outcome.UNCHANGED, 1, version.run_id)
    assert len(decisions) == 1 and "(promoted); nothing was trained" in unchanged.reason

    worse = write_toy(tmp_path, taught_base, training=SHORT, gates=[{"metric": "accuracy", "at_least": 1.0}])
    capsys.readouterr()
    tried = run_task(worse, dry_run=True)
    assert (tried.outcome, tried.version, tried.run_id, tried.label) == (Outcome.REJECTED, None, None, "dry run: rejected")
    assert "toy: the spec changed since version 1" in capsys.readouterr().err
    assert [v.version for v in versions.list_versions(store, "toy")] == [1]
    rejected = run_task(yaml.safe_load(worse.read_text()) | {"data": load_spec(worse).model_dump(mode="json")["data"]})
    assert (rejected.outcome, rejected.version, rejected.exit_code) == (Outcome.REJECTED, 2, 20)
    assert rejected.scores == tried.scores and "champion" in rejected.scores
    assert versions.aliases(store, "toy") == {"champion": 1, "challenger": 2}
    assert len(decisions) == 3
    again = run_task(worse)
    assert (again.outcome, again.stands_for, again.exit_code) == (Outcome.UNCHANGED, Outcome.REJECTED, 20)
    store.client.set_model_version_tag("toy", "2", tags.OUTCOME, "perhaps")
    assert find_unchanged(resolve(load_spec(worse)), store) is None, "a decision that cannot be read is none"

    (tmp_path / "test.csv").unlink()
    missing = run_task(worse)
    wrong = run_task({"name": "toy", "base_model": "bundled"})
    assert (missing.outcome, missing.exit_code) == (wrong.outcome, wrong.exit_code) == (Outcome.INVALID, 40)
    assert "test.csv" in missing.reason and "data" in wrong.reason and wrong.task == "toy"
    assert len(versions.list_versions(store, "toy")) == 2


def test_a_version_that_nobody_decided_about_is_taken_over_by_the_next_run(taught_base: Path, tmp_path: Path) -> None:
    def die(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    path = write_toy(tmp_path, taught_base, name="left", training=SHORT, gates=[{"metric": "accuracy", "at_least": 0.0}])
    dying = replace(Steps(), log_assessment=lambda *_: None, decide=die)
    with pytest.raises(KeyboardInterrupt):
        run_task(path, steps=dying)
    store = Store.connect()
    (left,) = versions.undecided(store, "left")

    trained: list[object] = []
    quick = replace(Steps(), log_assessment=lambda *_: None, log_training=lambda *given: trained.append(given))
    # As kill -9 leaves it: the run looks as if somebody were at work on it, but that process is gone.
    store.client.update_run(left.run_id, status="RUNNING")
    alive = json.loads(store.client.get_run(left.run_id).data.tags[tags.PROCESS])
    assert left_undecided(store, "left") == [], "its process may still decide"
    store.client.set_tag(left.run_id, tags.PROCESS, json.dumps({**alive, "started": "1"}))

    result = run_task(path, steps=quick)
    assert (result.outcome, result.version, result.run_id) == (Outcome.PROMOTED, 1, left.run_id), result.reason
    assert versions.undecided(store, "left") == [] and len(versions.list_versions(store, "left")) == 1 and not trained
    (run,) = store.client.search_runs([runs.experiment_id(store, "left")])
    assert (run.info.status, run.data.tags[tags.OUTCOME]) == ("FINISHED", "promoted")


def test_an_undecided_version_of_other_inputs_is_withdrawn_and_stands_for_nothing(taught_base: Path, tmp_path: Path) -> None:
    def fail(*_: object) -> NoReturn:
        raise InvalidInput("not today")

    gates = [{"metric": "accuracy", "at_least": 0.0}]
    path = write_toy(tmp_path, taught_base, name="other", training=SHORT, gates=gates)
    quick = replace(Steps(), log_assessment=lambda *_: None)
    assert run_task(path, steps=replace(quick, decide=fail)).outcome is Outcome.INVALID
    changed = write_toy(tmp_path, taught_base, name="other", training=SHORT, gates=gates, prompt={"length": 5})
    assert run_task(changed, steps=quick).version == 2
    store = Store.connect()
    assert [(v.version, v.tags[tags.OUTCOME]) for v in versions.list_versions(store, "other")] == [
        (2, "promoted"),
        (1, tags.OUTCOME_WITHDRAWN),
    ]
    entry = next(e for e in entries.history(store, "other") if e.action == "withdraw")
    assert (entry.status, entry.candidate) == ("completed", 1) and "version 2 was decided about in its place" in entry.reason
    assert [v.version for v in pruning.prunable(store, "other", 0)] == [1]
    last = versions.last_decided(store, "other")
    assert last is not None and last.version == 2
    store.client.delete_model_version("other", "2")
    assert versions.last_decided(store, "other") is None


def test_a_task_that_is_not_unchanged_any_more_is_told_why(
    taught_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_toy(tmp_path, taught_base, name="why", training=SHORT, gates=None)
    assert run_task(path).outcome is Outcome.REJECTED
    store = Store.connect()

    def told(spec: Path) -> str | None:
        """What is printed; None for a task that is unchanged."""
        capsys.readouterr()
        if find_unchanged(resolve(load_spec(spec)), store) is not None:
            return None
        return capsys.readouterr().err.strip()

    assert told(path) is None
    written = (tmp_path / "train.csv").read_bytes()
    write_rows(tmp_path / "train.csv", rows(70, seed=7))
    assert told(path) == "why: the data changed since version 1"
    other = write_toy(tmp_path, taught_base, name="why", training=SHORT, gates=None, prompt={"length": 5})
    assert told(other) == "why: the data and the spec changed since version 1"
    (tmp_path / "train.csv").write_bytes(written)
    assert told(other) == "why: the spec changed since version 1"
    same = write_toy(tmp_path, taught_base, name="why", training=SHORT, gates=None)
    assert told(same) is None
    # As a version of another release has it.
    for tag in (tags.FINGERPRINT, tags.LIBRARY_FINGERPRINT):
        store.client.set_model_version_tag("why", "1", tag, "0" * len(library_fingerprint()))
    assert told(same) == "why: the library's code, torch or transformers changed since version 1"


def test_a_gate_about_a_label_that_the_data_do_not_have_trains_and_registers_nothing(taught_base: Path, tmp_path: Path) -> None:
    path = write_toy(tmp_path, taught_base, gates=[{"metric": "f1/positve", "at_least": 0.1}])
    result = run_task(path)
    assert (result.outcome, result.exit_code) == (Outcome.INVALID, 40)
    assert "gates[0].metric: `f1/positve` is no metric" in result.reason and "did you mean `f1/positive`?" in result.reason
    store = Store.connect()
    assert versions.list_versions(store, "toy") == [] and store.client.get_experiment_by_name("softprompt/toy") is None
