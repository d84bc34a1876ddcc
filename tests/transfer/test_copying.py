"""Promotion across environments: what arrives, what is refused, who decides, and what a killed process leaves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import softprompt_core.transfer.copy as copying
from softprompt_core.decisions import reevaluate
from softprompt_core.decisions.replay import explain
from softprompt_core.errors import InvalidInput, Outcome
from softprompt_core.evaluation import metric_value
from softprompt_core.evaluation.results import EVIDENCE_FILE, EvaluationResults
from softprompt_core.json_files import read_json
from softprompt_core.lifecycle.result import LifecycleResult
from softprompt_core.spec import PromptSpec, load_spec
from softprompt_core.store import tags, versions
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger import entries, reconcile, recording
from softprompt_core.transfer.copy import Order
from softprompt_core.transfer.snapshot import Snapshot
from tests.lifecycles import at_home
from tests.toy_task import write_toy
from tests.transfer.environments import fetched, make_version, new_store

ROOT = Path(__file__).parents[2]
ORDER = Order("staging", "ann", "release 1")
BETTER = [{"metric": "accuracy", "at_least": 0.5}, {"metric": "accuracy", "versus": "champion", "by": 0.3}]


@dataclass(frozen=True)
class Staging:
    """`moved` has versions 1 and 2, the second judged against the first; `strict` and `watched` one each."""

    home: Path
    specs: Path
    blank: Path
    first: Snapshot
    second: Snapshot


@pytest.fixture(scope="module")
def staging(taught_base: Path, blank_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Staging:
    folder = tmp_path_factory.mktemp("copying")
    home, specs = new_store(folder / "staging", blank_database), folder / "specs"
    make_version(home, specs, taught_base, name="moved")
    make_version(home, specs, taught_base, name="moved", prompt={"length": 5})
    make_version(home, specs, taught_base, name="strict", gates=BETTER)
    make_version(home, specs, taught_base, name="watched", approval="required")
    with at_home(home):
        assert versions.aliases(Store.connect(), "moved") == {"champion": 2, "previous": 1}
        assert versions.get(Store.connect(), "watched", 1).awaits_approval
    snapshots = [fetched(home, "moved", which, folder / which) for which in ("previous", "champion")]
    return Staging(home, specs, blank_database, *snapshots)


@pytest.fixture
def prod(staging: Staging, tmp_path: Path, isolated_environment: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = new_store(tmp_path / "prod", staging.blank)
    monkeypatch.setenv("SOFTPROMPT_HOME", str(home))
    return home


@pytest.fixture
def nothing_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reevaluate, "_scored_again", None)


def copy(snapshot: Snapshot, order: Order = ORDER, spec: PromptSpec | None = None) -> LifecycleResult:
    return copying.copy(Store.connect(), snapshot, order, spec)


def contents(folder: Path, *without: str) -> dict[str, bytes]:
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in files.items() if not name.startswith(without)}


def test_the_version_arrives_whole_once_and_the_next_is_judged_on_stored_answers(
    staging: Staging, prod: Path, tmp_path: Path, nothing_is_scored: None
) -> None:
    first = copy(staging.first)
    assert (first.outcome, first.version, first.reason[:7]) == (Outcome.PROMOTED, 1, "2 gates")

    store = Store.connect()
    version = versions.get(store, "moved", 1)
    here = versions.download_whole(store, "moved", 1, tmp_path / "whole")
    assert contents(here, "MLmodel") == contents(staging.first.files, "MLmodel")
    about = json.dumps((here / "MLmodel").read_text())
    assert version.run_id in about and staging.first.run_id not in about
    for tag in (tags.CONTENT_FINGERPRINT, tags.FINGERPRINT, tags.DATA_FINGERPRINT, tags.BASE_FINGERPRINT, tags.SPEC_FINGERPRINT):
        assert version.tags[tag] == staging.first.tags[tag]
    source = [version.tags[tag] for tag in (tags.SOURCE, tags.SOURCE_VERSION, tags.SOURCE_RUN)]
    assert source == ["staging", "1", staging.first.run_id] and str(staging.home) in version.tags[tags.SOURCE_STORE]

    run = store.client.get_run(version.run_id)
    assert run.info.status == "FINISHED" and run.data.params == staging.first.params
    assert run.data.metrics.keys() == staging.first.metrics.keys()
    history = store.client.get_metric_history(version.run_id, "train/loss")
    curve = [(point.value, point.timestamp, point.step) for point in history]
    assert sorted(curve) == sorted(map(tuple, staging.first.metrics["train/loss"])) and len(curve) > 1
    (tmp_path / "run").mkdir()
    store.client.download_artifacts(version.run_id, "", str(tmp_path / "run"))
    arrived, sent = contents(tmp_path / "run"), contents(staging.first.artifacts)
    remade = {name for name in sent if name.startswith("gates/") or name in (EVIDENCE_FILE, "evaluation/comparison.png")}
    assert {name: arrived[f"source/{name}" if name in remade else name] for name in sent} == sent

    assert copy(staging.first).outcome is Outcome.UNCHANGED
    second = copy(staging.second)  # in staging it was compared with the version that is champion here
    assert (second.outcome, second.version) == (Outcome.PROMOTED, 2)
    assert second.scores["champion"] == first.scores["candidate"]
    assert versions.aliases(store, "moved") == {"champion": 2, "previous": 1}
    decisions = [(entry.action, entry.candidate, entry.by, entry.reason[:32]) for entry in entries.history(store, "moved")]
    assert decisions == [
        ("promote", 1, "ann", "release 1 (version 1 of staging:"),
        ("promote", 2, "ann", "release 1 (version 2 of staging:"),
    ]
    assert explain(store, "moved", 1).same_verdict and explain(store, "moved", 2).same_verdict
    # What was copied can be copied on.
    onward = fetched(prod, "moved", "champion", tmp_path / "onward")
    assert onward.compared_content == staging.first.tags[tags.CONTENT_FINGERPRINT]
    assert onward.tags[tags.CONTENT_FINGERPRINT] == staging.second.tags[tags.CONTENT_FINGERPRINT]

    with at_home(new_store(tmp_path / "third", staging.blank)):
        third = copy(onward, Order("prod", "ben", "further"))
        assert third.outcome is Outcome.PROMOTED and explain(Store.connect(), "moved", 1).same_verdict
        kept = [item.path for item in Store.connect().client.list_artifacts(str(third.run_id), "source/source/evaluation")]
        assert kept == ["source/source/evaluation/comparison.png", f"source/source/{EVIDENCE_FILE}"]

    recording.rollback(store, name="moved", by="ben", reason="complaints")
    with pytest.raises(InvalidInput, match=r"rolled back .* by ben: complaints"):
        copy(staging.second)


def test_the_gates_compare_with_the_champion_that_is_there(
    staging: Staging, prod: Path, taught_base: Path, tmp_path: Path
) -> None:
    strict = fetched(staging.home, "strict", "champion", tmp_path / "strict")
    make_version(prod, staging.specs, taught_base, name="strict")  # trained here, as good
    refused = copy(strict)
    stored = EvaluationResults.model_validate(read_json(strict.evidence))
    there = {name: metric_value(answers, "accuracy") for name, answers in stored.scorers().items()}
    assert (refused.outcome, refused.version) == (Outcome.REJECTED, 2)
    assert refused.scores == {**there, "champion": there["candidate"]}
    store = Store.connect()
    assert versions.aliases(store, "strict") == {"champion": 1, "challenger": 2}
    ledger = entries.history(store, "strict")
    again = copy(strict)
    assert (again.outcome, again.version) == (Outcome.REJECTED, 2) and "version 2 is the same" in again.reason
    assert entries.history(store, "strict") == ledger and len(versions.list_versions(store, "strict")) == 2
    assert explain(store, "strict", 2).same_verdict


def test_where_answers_cannot_be_compared_everyone_is_scored_again_or_nothing_is_registered(
    staging: Staging, prod: Path, taught_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "rows_of", lambda *_: None)  # of a release that kept no test rows
    make_version(prod, staging.specs, taught_base, name="moved")
    store = Store.connect()
    store.client.set_model_version_tag("moved", "1", tags.LIBRARY_FINGERPRINT, "an older release")
    elsewhere = tmp_path / "gone"
    shutil.move(staging.specs, elsewhere)
    try:
        with pytest.raises(InvalidInput):
            copy(staging.second)
        assert [version.version for version in versions.list_versions(store, "moved")] == [1]
        # With the spec named, the data are read where it says.
        named = load_spec(write_toy(elsewhere, taught_base, name="moved", prompt={"length": 5}))
        assert copy(staging.second, ORDER, named).outcome is Outcome.PROMOTED
    finally:
        shutil.move(elsewhere, staging.specs)


def test_a_version_is_refused_that_was_made_from_another_spec_or_is_in_the_same_store(staging: Staging, prod: Path) -> None:
    with pytest.raises(InvalidInput, match="another spec"):
        copy(staging.first, ORDER, load_spec(staging.specs / "moved.yaml"))
    with at_home(staging.home), pytest.raises(InvalidInput, match="in the store that it would be copied to"):
        copy(staging.first)
    with pytest.raises(InvalidInput, match="was not promoted there, it is awaiting approval"):
        fetched(staging.home, "watched", "1", prod / "waits")
    assert versions.list_versions(Store.connect(), "moved") == []


def stored(staging: Staging, end: str) -> Path:
    """The file in staging's store."""
    with at_home(staging.home):
        client, version = Store.connect().client, str(staging.first.version)
        run = Path(client.get_run(staging.first.run_id).info.artifact_uri.removeprefix("file://"))
        model = Path(client.get_model_version_download_uri("moved", version).removeprefix("file://"))
    (path,) = [path for root in (run, model) for path in root.rglob("*") if path.as_posix().endswith(end)]
    return path


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def better_loss(path: Path) -> None:
    """Too small a change for any gate to notice."""
    results = json.loads(path.read_text())
    results["candidate"]["loss"][0] *= 0.5
    path.write_text(json.dumps(results))


def other_words(path: Path) -> None:
    path.write_text(path.read_text().replace("gates passed", "gates were passed"))


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("soft_prompt/soft_prompt.safetensors", flipped, "files are not those that were registered"),
        ("pyfunc_model.py", lambda path: path.write_text(path.read_text() + "\nimport os\n"), "files are not those"),
        ("MLmodel", lambda path: path.write_text(path.read_text() + "\nmetadata: {a: b}\n"), "files are not those"),
        (EVIDENCE_FILE, better_loss, "evidence was changed"),
        (EVIDENCE_FILE, Path.unlink, "evidence is missing"),
        ("data/rows.json", Path.unlink, "evidence is missing"),
        ("gates/decision.json", other_words, "does not follow from its evidence"),
    ],
)
def test_what_is_not_as_it_was_recorded_is_not_handed_over(
    staging: Staging, tmp_path: Path, file: str, change: Callable[[Path], object], words: str
) -> None:
    path = stored(staging, file)
    before = path.read_bytes()
    try:
        change(path)
        with pytest.raises(InvalidInput, match=words):
            fetched(staging.home, "moved", "1", tmp_path / "snapshot")
    finally:
        path.write_bytes(before)
    assert not (tmp_path / "snapshot" / "snapshot.json").exists()


STEPS = [
    "files of the run",
    "version",
    "set_logged_model_tags",  # the version is there, and not yet finished
    "entry intent",
    "alias champion",
    "alias previous",
    "entry completed",
    "finish",
]


def test_done_again_after_a_kill_there_is_one_version_and_it_is_champion(staging: Staging, prod: Path, tmp_path: Path) -> None:
    homes = [new_store(tmp_path / str(index), staging.blank) for index in range(len(STEPS))]
    works = [[str(home), step] for home, step in zip(homes, STEPS, strict=True)]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("dying_copies.py")), str(staging.first.folder), json.dumps(works)],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0 and json.loads(done.stdout.splitlines()[-1]) == [9] * len(STEPS), done.stderr
    for home, step in zip(homes, STEPS, strict=True):
        with at_home(home):
            result, store = copy(staging.first), Store.connect()
            moved_before = STEPS.index(step) > STEPS.index("alias champion")
            assert result.outcome is (Outcome.UNCHANGED if moved_before else Outcome.PROMOTED), step
            (version,) = versions.list_versions(store, "moved")
            assert versions.aliases(store, "moved") == {"champion": version.version}, step
            assert store.client.get_run(version.run_id).info.status == "FINISHED", step
            assert store.client.get_run(version.run_id).data.tags[tags.OUTCOME] == "promoted", step
            reconcile.repair(store, "moved")
            assert [e.status for e in entries.history(store, "moved")].count("completed") == 1, step
            assert explain(store, "moved", version.version).same_verdict, step
