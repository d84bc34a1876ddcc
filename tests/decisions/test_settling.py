"""Versions that a broken run left undecided: named with the true reason, and ended by the evidence or without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from flows.doctor.orphans import unfinished_versions
from softprompt_core.decisions.replay import explain
from softprompt_core.decisions.settle import settle
from softprompt_core.errors import Outcome, Unavailable
from softprompt_core.lifecycle.run import run_task
from softprompt_core.lifecycle.steps import Steps
from softprompt_core.store import tags, versions
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger import entries
from tests.toy_task import write_toy

SHORT = {"max_steps": 4, "eval_every": 2, "batch_size": 16}


def cut_off(*_: object) -> NoReturn:
    raise Unavailable("MLflow stopped answering")


def test_what_is_left_is_decided_on_its_evidence_and_withdrawn_without(taught_base: Path, tmp_path: Path) -> None:
    gates = [{"metric": "accuracy", "at_least": 0.0}, {"metric": "accuracy", "versus": "champion", "margin": 1.0}]
    steps = replace(Steps(), decide=cut_off)
    first = write_toy(tmp_path, taught_base, name="cut", training=SHORT, gates=gates)
    assert run_task(first, steps=steps).outcome is Outcome.UNAVAILABLE
    store = Store.connect()
    (left,) = versions.undecided(store)
    (finding,) = unfinished_versions(store)
    words = f"cut version 1 is undecided: its run {left.run_id} ended as unavailable between registration and decision"
    assert (finding.status, finding.found) == ("warning", words)

    assert settle(store, left) == "is promoted now, by its gates and the evidence in its run"
    assert versions.aliases(store, "cut") == {"champion": 1} and explain(store, "cut", 1).same_verdict
    (entry,) = entries.history(store, "cut")
    assert entry.by == "softprompt doctor --repair" and "since its run broke off" in entry.reason

    blind = replace(steps, log_assessment=lambda *_: None)
    second = write_toy(tmp_path, taught_base, name="cut", training=SHORT, gates=gates, prompt={"length": 5})
    assert run_task(second, steps=blind).outcome is Outcome.UNAVAILABLE
    (left,) = versions.undecided(store)
    assert settle(store, left).startswith("withdrawn; its run broke off before a decision")
    assert versions.get(store, "cut", 2).tags[tags.OUTCOME] == tags.OUTCOME_WITHDRAWN
    assert "its run holds no evidence" in entries.history(store, "cut")[-1].reason
    assert settle(store, left) == "was decided about meanwhile"
    assert [finding.status for finding in unfinished_versions(store)] == ["ok"]
    assert versions.aliases(store, "cut") == {"champion": 1}
