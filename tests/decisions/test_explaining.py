"""A decision is replayed from what MLflow keeps, and a record that was changed is noticed."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from softprompt_core.decisions.reevaluate import apply_gates
from softprompt_core.decisions.replay import explain
from softprompt_core.errors import Outcome
from softprompt_core.evaluation.results import DECISION_FILE, EVIDENCE_FILE
from softprompt_core.fingerprint import fingerprint
from softprompt_core.gates import Decision
from softprompt_core.spec import load_spec
from softprompt_core.spec.gates import FACTS
from softprompt_core.store import run_contents, versions
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger import entries
from softprompt_core.store.ledger.entries import EvidenceRef, new_key, write
from tests.lifecycles import Finished, at_home, run_lifecycle
from tests.toy_task import write_toy

NAME = "explained"
GATES: list[dict[str, Any]] = [
    {"metric": "accuracy", "at_least": 0.8},
    {"metric": "accuracy", "versus": "majority", "by": 0.1, "confidence": 0.95},
    {"metric": "size_bytes", "at_most": 200_000},
    {"metric": "prompt_norm", "at_least": 1e-4, "at_most": 1000},
    {"metric": "seed_spread", "at_most": 1.0},
    {"metric": "diverged_seeds", "at_most": 0},
    {"metric": "best_step", "at_least": 1},
    {"metric": "accuracy", "versus": "champion", "margin": 0.1},
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("explained") / "home"


@pytest.fixture(scope="module")
def decided(home: Path, taught_base: Path) -> Finished:
    """A first version of two seeds, with its record."""
    folder = home.parent / "toy"
    with at_home(home):
        path = write_toy(folder, taught_base, name=NAME, gates=GATES, training={"seeds": 2, "max_steps": 60})
        finished = run_lifecycle(path)
        assert finished.outcome is Outcome.PROMOTED
    # What a decision rests on is in MLflow alone: work and data may be gone.
    shutil.rmtree(home / "work")
    shutil.rmtree(folder)
    return finished


@pytest.fixture
def in_home(home: Path, isolated_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTPROMPT_HOME", str(home))
    # Set when the store is opened, which was before this test.
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


@pytest.fixture
def softprompt(
    in_home: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    from flows.cli import main

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["softprompt", "gates", "explain", *arguments])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


@pytest.fixture
def changed(decided: Finished, in_home: None) -> Any:
    """Change one artifact; it is put back afterwards."""
    store = Store.connect()
    originals = {
        EVIDENCE_FILE: decided.results.model_dump(mode="json"),
        DECISION_FILE: decided.decision.model_dump(mode="json"),
    }

    def change(file: str, edit: Callable[[Any], Any]) -> None:
        store.client.log_text(decided.run_id, json.dumps(edit(json.loads(json.dumps(originals[file])))), file)

    yield change
    for file, value in originals.items():
        run_contents.log_json(store, decided.run_id, value, file)


def test_the_evidence_knows_the_candidate_and_every_seed(decided: Finished) -> None:
    facts, seeds = decided.results.facts, decided.results.seeds
    assert set(facts) == set(FACTS)
    scores = tuple(seed.metric for seed in decided.seeds)
    assert tuple(seed.validation for seed in seeds) == scores
    assert facts["seed_spread"] == max(scores) - min(scores)
    (chosen,) = (seed for seed in seeds if seed.chosen)
    assert chosen.validation == max(scores)
    assert chosen.test == decided.accuracy("candidate")
    assert all(seed.test is not None and 0 <= seed.test <= 1 for seed in seeds)
    assert 10_000 > facts["size_bytes"] > 16 * 4  # 16 hidden units at least, one vector


def test_a_decision_is_replayed_from_the_record_alone(decided: Finished, in_home: None) -> None:
    explanation = explain(Store.connect(), NAME, decided.version)
    assert explanation.same_verdict and explanation.stored == explanation.replayed == decided.decision and not explanation.notes
    assert [r.status for r in explanation.replayed.results] == ["passed"] * 7 + ["skipped"]


def test_the_command_prints_reasons_and_the_same_verdict(
    decided: Finished, softprompt: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, _ = softprompt(NAME, str(decided.version))
    lines = out.splitlines()
    assert code == 0 and lines[0] == f"{NAME} version 1: promoted" and lines[-1] == "same verdict"
    assert lines[1:10] == decided.decision.to_text().splitlines()
    assert sum(line.startswith("  seed ") for line in lines) == 2 and sum(line.endswith("chosen") for line in lines) == 1
    assert softprompt(NAME) == (code, out, "")
    code, out, _ = softprompt(NAME, "1", "--json")
    assert code == 0 and json.loads(out)["same_verdict"] is True
    assert Decision.model_validate(json.loads(out)["replayed"]) == decided.decision


def test_other_evidence_than_was_decided_on_is_noticed(changed: Any, softprompt: Callable[..., tuple[int, str, str]]) -> None:
    def worse(evidence: Any) -> Any:
        evidence["candidate"]["predicted"] = [evidence["candidate"]["predicted"][0]] * len(evidence["candidate"]["ids"])
        return evidence

    changed(EVIDENCE_FILE, worse)
    code, out, _ = softprompt(NAME)
    assert code == 20 and out.splitlines()[-1] == "another verdict"
    assert "the verdict was promoted and is rejected now" in out and "accuracy at least 0.8: was passed, is failed now" in out


def test_a_report_that_was_changed_afterwards_is_noticed(changed: Any, softprompt: Callable[..., tuple[int, str, str]]) -> None:
    changed(DECISION_FILE, lambda decision: decision | {"verdict": "All is well."})
    code, out, _ = softprompt(NAME)
    assert code == 20 and "the ledger names another decision than the stored one" in out


def test_numbers_of_another_release_are_no_other_verdict(changed: Any, decided: Finished, in_home: None) -> None:
    def rounded(decision: Any) -> Any:
        decision["results"][1]["p_value"] = 0.0123
        return decision

    changed(DECISION_FILE, rounded)
    explanation = explain(Store.connect(), NAME, decided.version)
    assert explanation.notes == ("numbers or words differ from the stored report: it was made by another release",)
    assert [d for d in explanation.differences if "ledger" not in d] == []


def test_of_several_decisions_the_one_that_the_ledger_names_last_is_replayed(decided: Finished, in_home: None) -> None:
    """Gates that ran again against another champion leave their own decision and evidence."""
    store = Store.connect()
    champion = decided.results.candidate.model_copy(update={"scorer": "champion"})
    other = decided.results.model_copy(update={"champion": champion})
    with tempfile.TemporaryDirectory() as scratch:
        spec = load_spec(versions.download(store, NAME, decided.version, Path(scratch)) / "spec.yaml")
    again = apply_gates(spec, other)
    assert [r.status for r in again.results] == ["passed"] * len(decided.decision.results)
    decision = again.model_dump(mode="json")
    run_contents.log_json(store, decided.run_id, decision, "gates/again-champion-1.json")
    run_contents.log_json(store, decided.run_id, other.model_dump(mode="json"), "gates/again-champion-1-evidence.json")
    assert explain(store, NAME, decided.version).stored == decided.decision
    entry = entries.history(store, NAME)[-1]
    evidence = EvidenceRef(decided.run_id, fingerprint(decision))
    later = entry.model_copy(update=dict(key=new_key(), evidence=evidence))
    write(store, NAME, later)
    try:
        explanation = explain(store, NAME, decided.version)
        assert explanation.same_verdict and explanation.stored == explanation.replayed == again
    finally:
        store.client.delete_registered_model_tag(NAME, later.key)


@pytest.mark.parametrize("file", [EVIDENCE_FILE, DECISION_FILE])
def test_a_record_that_cannot_be_read_is_told_with_its_place(
    changed: Any, softprompt: Callable[..., tuple[int, str, str]], decided: Finished, home: Path, file: str
) -> None:
    changed(file, lambda _: {"nothing": 1})
    code, _, err = softprompt(NAME)
    assert code == 40 and file in err and "cannot be read" in err and "Traceback" not in err
    stored = next(path for path in home.rglob(file) if decided.run_id in str(path))
    stored.unlink()
    code, _, err = softprompt(NAME)
    assert code == 40 and "is not there" in err and "softprompt run --force" in err


def test_unknown_tasks_and_versions_are_told(softprompt: Callable[..., tuple[int, str, str]]) -> None:
    assert softprompt("nobody")[0] == 40 and softprompt(NAME, "7")[0] == 40
