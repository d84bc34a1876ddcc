"""A decision is replayed from what MLflow keeps, and a record that was changed is noticed."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from softprompt_core import registry
from softprompt_core.errors import Outcome
from softprompt_core.fingerprint import fingerprint
from softprompt_core.gates import Decision
from softprompt_core.registry.ledger import new_key, write
from softprompt_core.spec import load_spec
from softprompt_core.spec.gates import FACTS
from softprompt_core.stages import record, reporting
from softprompt_core.stages.evaluation import evaluate
from softprompt_core.stages.evidence import DECISION_FILE, EVIDENCE_FILE, Evidence
from softprompt_core.stages.explaining import explain
from softprompt_core.stages.inputs import gather
from softprompt_core.stages.promotion import act, judge
from softprompt_core.stages.registration import register
from softprompt_core.stages.trained import best
from softprompt_core.stages.training import train_seeds
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


@dataclass(frozen=True)
class Decided:
    version: int
    run_id: str
    evidence: Evidence
    decision: Decision
    scores: tuple[float, ...]
    home: Path


@pytest.fixture(scope="module")
def decided(taught_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Decided:
    """A first version of two seeds, with its record."""
    folder = tmp_path_factory.mktemp("explained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTPROMPT_HOME", str(folder / "home"))
        spec = load_spec(write_toy(folder / "toy", taught_base, name=NAME, gates=GATES, training={"seeds": 2, "max_steps": 60}))
        client, inputs = record.client(), gather(spec)
        trained = train_seeds(spec, inputs)
        chosen = best(trained)
        evidence = Evidence.load(evaluate(spec, inputs, Path(chosen.prompt), None))
        decision = judge(spec, evidence)
        experiment, run_id = reporting.open_run(client, spec, inputs, None)
        words = reporting.describe_version(spec, inputs, evidence, decision, experiment, run_id)
        version = register(spec, inputs, client, run_id, Path(chosen.prompt), words).version
        reporting.log_evaluation(client, run_id, inputs, evidence, decision)
        assert act(client, spec, version, None, decision, run_id, by="a test") is Outcome.PROMOTED
    # What a decision rests on is in MLflow alone: work and data may be gone.
    shutil.rmtree(folder / "home" / "work")
    shutil.rmtree(folder / "toy")
    return Decided(version, run_id, evidence, decision, tuple(t.metric for t in trained), folder / "home")


@pytest.fixture
def at_home(decided: Decided, isolated_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTPROMPT_HOME", str(decided.home))
    # Set when the record is opened, which was before this test.
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


@pytest.fixture
def softprompt(
    at_home: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def changed(decided: Decided, at_home: None) -> Any:
    """Change one artifact; it is put back afterwards."""
    client = record.client()
    originals: dict[str, Any] = {EVIDENCE_FILE: decided.evidence.to_json(), DECISION_FILE: decided.decision.to_json()}

    def change(file: str, edit: Callable[[Any], Any]) -> None:
        client.log_text(decided.run_id, json.dumps(edit(json.loads(json.dumps(originals[file])))), file)

    yield change
    for file, value in originals.items():
        registry.log_json(client, decided.run_id, value, file)


def test_the_evidence_knows_the_candidate_and_every_seed(decided: Decided) -> None:
    facts, seeds = decided.evidence.facts, decided.evidence.seeds
    assert set(facts) == set(FACTS)
    assert tuple(seed.validation for seed in seeds) == decided.scores
    assert facts["seed_spread"] == max(decided.scores) - min(decided.scores)
    (chosen,) = (seed for seed in seeds if seed.chosen)
    assert chosen.validation == max(decided.scores)
    assert chosen.test == decided.evidence.metrics()["candidate"]["accuracy"]
    assert all(seed.test is not None and 0 <= seed.test <= 1 for seed in seeds)
    assert 10_000 > facts["size_bytes"] > 16 * 4  # 16 hidden units at least, one vector


def test_a_decision_is_replayed_from_the_record_alone(decided: Decided, at_home: None) -> None:
    found = explain(record.client(), NAME, decided.version)
    assert found.same and found.stored == found.replayed == decided.decision and not found.notes
    assert [r.status for r in found.replayed.results] == ["passed"] * 7 + ["skipped"]


def test_the_command_prints_reasons_and_the_same_verdict(
    decided: Decided, softprompt: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, _ = softprompt(NAME, str(decided.version))
    lines = out.splitlines()
    assert code == 0 and lines[0] == f"{NAME} version 1: promoted" and lines[-1] == "same verdict"
    assert lines[1:10] == decided.decision.to_text().splitlines()
    assert sum(line.startswith("  seed ") for line in lines) == 2 and sum(line.endswith("chosen") for line in lines) == 1
    assert softprompt(NAME) == (code, out, "")
    code, out, _ = softprompt(NAME, "1", "--json")
    assert code == 0 and json.loads(out)["same_verdict"] is True
    assert Decision.from_json(json.loads(out)["replayed"]) == decided.decision


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


def test_numbers_of_another_release_are_no_other_verdict(changed: Any, decided: Decided, at_home: None) -> None:
    def rounded(decision: Any) -> Any:
        decision["results"][1]["p_value"] = 0.0123
        return decision

    changed(DECISION_FILE, rounded)
    found = explain(record.client(), NAME, decided.version)
    assert found.notes == ("numbers or words differ from the stored report: it was made by another release",)
    assert [d for d in found.differences if "ledger" not in d] == []


def test_of_several_decisions_the_one_that_the_ledger_names_last_is_replayed(decided: Decided, at_home: None) -> None:
    """Gates that ran again against another champion leave their own decision and evidence."""
    client = record.client()
    spec_gates = decided.decision.results
    other = replace(decided.evidence, champion=replace(decided.evidence.candidate, scorer="champion"))
    with tempfile.TemporaryDirectory() as place:
        spec = load_spec(registry.download(client, NAME, decided.version, Path(place)) / "spec.yaml")
    again = judge(spec, other)
    assert [r.status for r in again.results] == ["passed"] * len(spec_gates)
    registry.log_json(client, decided.run_id, again.to_json(), "gates/again-champion-1.json")
    registry.log_json(client, decided.run_id, other.to_json(), "gates/again-champion-1-evidence.json")
    assert explain(client, NAME, decided.version).stored == decided.decision
    entry = registry.history(client, NAME)[-1]
    later = replace(entry, key=new_key(), evidence=registry.Evidence(decided.run_id, fingerprint(again.to_json())))
    write(client, NAME, later)
    try:
        found = explain(client, NAME, decided.version)
        assert found.same and found.stored == found.replayed == again
    finally:
        client.delete_registered_model_tag(NAME, later.key)


@pytest.mark.parametrize("file", [EVIDENCE_FILE, DECISION_FILE])
def test_a_record_that_cannot_be_read_is_told_with_its_place(
    changed: Any, softprompt: Callable[..., tuple[int, str, str]], decided: Decided, file: str
) -> None:
    changed(file, lambda _: {"nothing": 1})
    code, _, err = softprompt(NAME)
    assert code == 40 and file in err and "cannot be read" in err and "Traceback" not in err
    stored = next(path for path in decided.home.rglob(file) if decided.run_id in str(path))
    stored.unlink()
    code, _, err = softprompt(NAME)
    assert code == 40 and "is not there" in err and "softprompt run --force" in err


def test_unknown_tasks_and_versions_are_told(softprompt: Callable[..., tuple[int, str, str]]) -> None:
    assert softprompt("nobody")[0] == 40 and softprompt(NAME, "7")[0] == 40
