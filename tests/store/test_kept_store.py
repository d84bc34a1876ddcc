"""A store that the release before made (``kept_store``) still opens: it lists, decides and rolls back."""

import shutil
import tarfile
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from softprompt_core.decisions.review import review
from softprompt_core.errors import InvalidInput, Outcome
from softprompt_core.evaluation.results import EVIDENCE_FILE, EvaluationResults
from softprompt_core.fingerprint import file_digest
from softprompt_core.serving import Predictor
from softprompt_core.store import tags
from softprompt_core.store.content import content_fingerprint
from softprompt_core.store.ledger.approval import awaiting, decision_about, pending
from softprompt_core.store.ledger.entries import history
from softprompt_core.store.ledger.pruning import prune
from softprompt_core.store.ledger.reconcile import repair, task_state
from softprompt_core.store.ledger.recording import NewDecision, record_decision, rollback
from softprompt_core.store.overview import overview
from softprompt_core.store.registration import incomplete_versions
from softprompt_core.store.run_contents import read_json
from softprompt_core.store.versions import (
    aliases,
    by_alias,
    download,
    download_whole,
    get,
    last_decided,
    list_versions,
    local_folder,
)
from tests.store.ledgers import EVIDENCE, summary

LEDGER = [
    ("promote", "completed", 1, None),
    ("promote", "completed", 2, 1),
    ("reject", "completed", 3, 2),
    ("await", "completed", 4, 2),
]


def test_versions_aliases_and_outcomes_are_listed(kept_store):
    versions = list_versions(kept_store)
    assert [(v.name, v.version, v.tags[tags.OUTCOME], v.aliases) for v in versions] == [
        ("toy", 4, "awaiting_approval", ("challenger",)),
        ("toy", 3, "rejected", ()),
        ("toy", 2, "promoted", ("champion",)),
        ("toy", 1, "promoted", ("previous",)),
    ]
    assert by_alias(kept_store, "toy", tags.CHAMPION) == versions[2]
    assert last_decided(kept_store, "toy") == versions[0]
    assert incomplete_versions(kept_store) == []
    (task,) = overview(kept_store)
    assert (task.name, task.ledger_error, task.unfinished, task.state) == ("toy", None, None, task_state(kept_store, "toy"))


def test_the_ledger_is_read_whole_and_needs_no_repair(kept_store):
    entries = history(kept_store, "toy")
    assert summary(entries) == LEDGER
    assert {entry.by for entry in entries} == {"softprompt-lifecycle"}
    assert [entry.evidence.run_id for entry in entries] == [get(kept_store, "toy", v).run_id for v in (1, 2, 3, 4)]
    assert all(len(entry.evidence.report) == 64 for entry in entries)
    assert entries[2].reason.startswith("3 of 3 gates failed: accuracy at least 0.8: 0.46875 is below 0.8")
    assert task_state(kept_store, "toy").moved_by_hand is None and repair(kept_store, "toy") == []
    assert decision_about(tuple(entries), 3) == entries[2]


def test_files_are_downloaded_as_they_were_registered(kept_store, tmp_path):
    for version in list_versions(kept_store):
        whole = download_whole(kept_store, "toy", version.version, tmp_path / f"whole-{version.version}")
        assert content_fingerprint(whole) == version.tags[tags.CONTENT_FINGERPRINT]
        folder = download(kept_store, "toy", version.version, tmp_path / f"prompt-{version.version}")
        assert file_digest(folder / "soft_prompt.safetensors")
        assert yaml.safe_load((folder / "spec.yaml").read_text())["name"] == "toy"
        evidence = read_json(kept_store, version.run_id, "evaluation/evidence.json")
        assert evidence is not None


def test_a_version_whose_spec_leaves_defaults_out_answers_as_it_did(kept_store, tmp_path, monkeypatch):
    with tarfile.open(Path(__file__).with_name("kept_store") / "base_and_specs.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.setenv("SOFTPROMPT_BASE_MODEL", str(tmp_path / "base"))
    frame = pd.read_csv(tmp_path / "fourth" / "test.csv")
    for version in list_versions(kept_store, "toy"):
        folder = download(kept_store, "toy", version.version, tmp_path / str(version.version))
        assert "evaluation" not in yaml.safe_load((folder / "spec.yaml").read_text())
        answers = Predictor.load(folder).predict(frame[["text"]])
        stored = EvaluationResults.model_validate(read_json(kept_store, version.run_id, EVIDENCE_FILE)).candidate
        assert tuple(answers["prediction"]) == stored.predicted
        best = torch.tensor(stored.scores, dtype=torch.float64).softmax(1).max(1).values
        assert answers["probability"].tolist() == pytest.approx(best.tolist(), abs=1e-4)


def test_the_version_that_waits_is_approved(kept_store):
    with pytest.raises(InvalidInput, match="does not wait for approval, it is promoted"):
        awaiting(kept_store, "toy", 2)
    (waiting,) = pending(kept_store)
    assert (waiting.version.version, waiting.compared_with, waiting.champion, waiting.stale) == (4, 2, 2, False)
    evidence = history(kept_store, "toy")[-1].evidence
    decision = NewDecision("toy", 4, 2, Outcome.PROMOTED, "ann", "fine", evidence, approves=True, only_if="awaiting_approval")
    assert record_decision(kept_store, decision) is Outcome.PROMOTED
    assert aliases(kept_store, "toy") == {"champion": 4, "previous": 2}
    assert summary(history(kept_store, "toy")) == [*LEDGER, ("approve", "completed", 4, 2)]


def test_a_promotion_and_rollbacks_go_on_from_its_ledger(kept_store):
    override = NewDecision("toy", 3, 2, Outcome.PROMOTED, "ann", "needed", EVIDENCE, override=True)
    assert record_decision(kept_store, override) is Outcome.PROMOTED
    for target, before in ((2, 3), (1, 2)):
        entry = rollback(kept_store, name="toy", by="ann", reason="bad answers")
        assert (entry.candidate, entry.previous_champion) == (target, before)
    assert aliases(kept_store, "toy") == {"champion": 1, "challenger": 4}
    assert tags.WITHDRAWN in get(kept_store, "toy", 3).tags
    assert [entry.override for entry in history(kept_store, "toy")[4:]] == [True, False, False]


def test_nobody_goes_back_to_a_version_whose_files_were_changed_or_are_gone(kept_store):
    folder = local_folder(kept_store, "toy", 1)
    (folder / "artifacts" / "soft_prompt" / "spec.yaml").write_text("name: toy\n")
    with pytest.raises(InvalidInput, match="version 1: its files are not those that were registered"):
        rollback(kept_store, name="toy", by="ann", reason="bad answers")
    shutil.rmtree(folder)
    with pytest.raises(InvalidInput, match="version 1: its files are gone"):
        rollback(kept_store, name="toy", by="ann", reason="bad answers")
    shutil.rmtree(local_folder(kept_store, "toy", 4))
    with pytest.raises(InvalidInput, match="version 4: its files are gone"):
        review(kept_store, "toy", 4, "approve", by="ann", reason="fine")
    assert aliases(kept_store, "toy") == {"champion": 2, "previous": 1, "challenger": 4}


def test_what_no_one_uses_is_pruned(kept_store):
    assert prune(kept_store, name="toy", keep=0, by="ann", reason="old") == [3]
    assert [v.version for v in list_versions(kept_store, "toy")] == [4, 2, 1]
    assert len(kept_store.client.search_logged_models(["1"])) == 3
