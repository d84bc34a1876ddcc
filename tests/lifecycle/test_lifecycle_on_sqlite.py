"""Lifecycles without Prefect on a real store: what a version holds, and who is compared with whom."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import torch
import yaml
from pydantic import BaseModel

from softprompt_core.base_model.loading import load_base
from softprompt_core.base_model.tokens import TokenizedRow, answer_ids, encode_inputs
from softprompt_core.errors import InvalidInput, Outcome
from softprompt_core.fingerprint import tree_fingerprint
from softprompt_core.forward.plain import plain_target_logits
from softprompt_core.lifecycle import resolve as resolving
from softprompt_core.lifecycle.evaluate import evaluate
from softprompt_core.lifecycle.resolve import ResolvedTask
from softprompt_core.lifecycle.result import LifecycleResult
from softprompt_core.lifecycle.run import run_task
from softprompt_core.lifecycle.steps import Steps
from softprompt_core.lifecycle.train import train
from softprompt_core.operations.monitor import CheckOptions, check_health
from softprompt_core.operations.revalidate import revalidate
from softprompt_core.serving import Predictor
from softprompt_core.soft_prompt import SoftPrompt
from softprompt_core.spec import load_spec
from softprompt_core.store import tags, versions
from softprompt_core.store.connection import Store
from tests.lifecycles import Finished, run_lifecycle
from tests.tiny_models import save_tiny
from tests.toy_task import rows, write_rows, write_toy

SHORT = {"max_steps": 4, "eval_every": 2, "batch_size": 16}
PLAIN_FILES = {
    "MLmodel",
    "artifacts/soft_prompt/content.json",
    "artifacts/soft_prompt/soft_prompt.safetensors",
    "artifacts/soft_prompt/spec.yaml",
    "conda.yaml",
    "input_example.json",
    "pyfunc_model.py",
    "python_env.yaml",
    "requirements.txt",
    "serving_input_example.json",
}
PEFT_FILES = {"artifacts/soft_prompt/adapter_config.json", "artifacts/soft_prompt/adapter_model.safetensors"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all tests, which use different task names: making its tables takes seconds."""
    return tmp_path_factory.mktemp("lifecycles") / "home"


@pytest.fixture(autouse=True)
def at_home(home: Path, isolated_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTPROMPT_HOME", str(home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}")  # for mlflow.pyfunc.load_model


@pytest.fixture(scope="module")
def promoted(home: Path, taught_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTPROMPT_HOME", str(home))
        return run_lifecycle(write_toy(tmp_path_factory.mktemp("toy"), taught_base))


def champion(name: str) -> int | None:
    return versions.aliases(Store.connect(), name).get(tags.CHAMPION)


def run(spec: Path) -> Finished:
    return run_lifecycle(spec, evidence=False)


def files_of(finished: Finished, to: Path) -> Path:
    return versions.download_whole(Store.connect(), finished.task.name, finished.version, to / "files")


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def frame(finished: Finished, split: str = "test") -> pd.DataFrame:
    return pd.read_csv(finished.folder / f"{split}.csv")


def test_a_learnable_task_becomes_champion(promoted: Finished) -> None:
    assert promoted.outcome is Outcome.PROMOTED and promoted.version == 1
    assert champion("toy") == 1
    assert promoted.accuracy("candidate") >= 0.8 > promoted.accuracy("majority")


def test_a_suffix_version_holds_exactly_these_files_in_little_space(promoted: Finished, tmp_path: Path) -> None:
    folder = files_of(promoted, tmp_path)
    assert names_in(folder) == PLAIN_FILES
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 200_000
    stored = SoftPrompt.load(folder / "artifacts/soft_prompt/soft_prompt.safetensors")
    assert torch.equal(stored.weights, SoftPrompt.load(promoted.candidate.prompt).weights)
    assert stored.labels == ("negative", "positive") and stored.base == promoted.task.base


def test_a_prefix_version_holds_the_peft_files_as_well(taught_base: Path, tmp_path: Path) -> None:
    finished = run(write_toy(tmp_path, taught_base, name="prefix", prompt={"length": 4, "position": "prefix"}, training=SHORT))
    folder = files_of(finished, tmp_path / "version")
    assert names_in(folder) == PLAIN_FILES | PEFT_FILES
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 200_000


def test_the_served_champion_answers_as_the_evidence_says(promoted: Finished) -> None:
    served = mlflow.pyfunc.load_model("models:/toy@champion")
    answers = served.predict(frame(promoted)[["text"]])
    assert tuple(answers["prediction"]) == promoted.results.candidate.predicted
    best = [max(torch.tensor(row, dtype=torch.float64).softmax(0).tolist()) for row in promoted.results.candidate.scores]
    assert answers["probability"].tolist() == pytest.approx(best, abs=1e-4)


def test_everyone_is_scored_on_the_same_rows_and_the_champion_anew(taught_base: Path, tmp_path: Path) -> None:
    path = write_toy(tmp_path, taught_base, name="again")
    first = run(path)
    harder = rows(40, seed=9)
    for row in harder[:20]:  # the champion's answers to these are wrong now
        row["label"] = {"positive": "negative", "negative": "positive"}[row["label"]]
    write_rows(tmp_path / "test.csv", harder)
    second = run(path)
    ids = {name: (p.ids, p.gold) for name, p in second.results.scorers().items()}
    assert set(ids) == {"candidate", "champion", "hard_prompt", "majority"} and len(set(ids.values())) == 1
    assert len(second.results.candidate.ids) == 40
    # Rows turned round: about half of the answers are right, whatever number is stored for version 1.
    assert first.accuracy("candidate") >= 0.8
    assert second.accuracy("champion") == pytest.approx(0.5, abs=0.15)
    assert not second.task.workspace.champion(1).exists(), "nothing is left behind"
    version = versions.download(Store.connect(), "again", 1, tmp_path / "champion")
    assert second.results.champion is not None
    assert second.results.champion.predicted == tuple(Predictor.load(version).predict(frame(second)[["text"]])["prediction"])
    assert second.outcome is Outcome.REJECTED and champion("again") == 1


def test_a_champion_of_another_base_is_scored_on_its_own(taught_base: Path, tmp_path: Path) -> None:
    first = run(write_toy(tmp_path, taught_base, name="moved"))
    other = save_tiny(tmp_path / "random", "llama")
    second = run(write_toy(tmp_path, other, name="moved", training=SHORT))
    assert second.results.champion is not None and second.results.champion_problem is None
    assert second.results.champion.predicted == first.results.candidate.predicted
    assert second.results.champion.loss == pytest.approx(first.results.candidate.loss, abs=1e-5)
    assert second.outcome is Outcome.REJECTED and champion("moved") == 1


def test_a_champion_whose_files_changed_or_are_gone_is_refused_and_loses_by_its_gate(taught_base: Path, tmp_path: Path) -> None:
    gates = [{"metric": "accuracy", "at_least": 0.0}, {"metric": "accuracy", "versus": "champion", "margin": 1.0}]
    quick = replace(Steps(), log_assessment=lambda *_: None)

    def run_quickly(length: int, **more: Any) -> LifecycleResult:
        path = write_toy(tmp_path, taught_base, name="damaged", gates=gates, training=SHORT, prompt={"length": length, **more})
        return run_task(path, steps=quick)

    assert run_quickly(4).outcome is Outcome.PROMOTED
    store = Store.connect()
    folder = versions.local_folder(store, "damaged", 1)
    assert folder is not None
    prompt = folder / "artifacts" / "soft_prompt" / "soft_prompt.safetensors"
    content = bytearray(prompt.read_bytes())
    content[-2] ^= 1
    prompt.write_bytes(content)

    words = "its files are not those that were registered: `soft_prompt.safetensors` is not the one"
    with pytest.raises(InvalidInput, match=words):
        mlflow.pyfunc.load_model("models:/damaged@champion")
    with pytest.raises(InvalidInput, match=words):
        check_health(store, "damaged", CheckOptions(frame=pd.DataFrame({"text": ["a good film"], "label": ["positive"]})))
    assert words in revalidate(store, "damaged").reason
    result = run_quickly(5)
    assert result.outcome is Outcome.REJECTED and any(words in gate for gate in result.gates), result
    started = run_quickly(5, init="champion")
    assert started.outcome is Outcome.INVALID and words in started.reason and "rollback damaged" in started.reason

    shutil.rmtree(folder)
    result = run_quickly(6)
    assert result.outcome is Outcome.REJECTED and any("its files are gone" in gate for gate in result.gates), result
    assert champion("damaged") == 1


def test_a_champion_that_cannot_be_scored_is_never_beaten(taught_base: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(taught_base, tmp_path / "own"))
    gates = [{"metric": "accuracy", "at_least": 0.1}, {"metric": "accuracy", "versus": "champion", "margin": 1.0}]
    assert run(write_toy(tmp_path, own, name="lost", gates=gates, training=SHORT)).outcome is Outcome.PROMOTED
    shutil.rmtree(own)
    other = save_tiny(tmp_path / "random", "llama")
    second = run(write_toy(tmp_path, other, name="lost", gates=gates, training=SHORT))
    assert "no such folder" in (second.results.champion_problem or "")
    assert [gate.status for gate in second.decision.results] == ["passed", "failed"]
    assert second.outcome is Outcome.REJECTED and champion("lost") == 1


def test_a_champion_whose_files_are_gone_loses_by_its_gate_with_words(taught_base: Path, tmp_path: Path) -> None:
    gates = [{"metric": "accuracy", "at_least": 0.1}, {"metric": "accuracy", "versus": "champion", "margin": 1.0}]
    path = write_toy(tmp_path, taught_base, name="gone", gates=gates, training=SHORT)
    first = run(path)
    stored = Store.connect().client.get_model_version_download_uri("gone", str(first.version))
    shutil.rmtree(Path(stored.removeprefix("file://")))
    second = run(path)
    assert second.results.champion_problem == "version 1: its files are gone"
    assert [gate.status for gate in second.decision.results] == ["passed", "failed"]
    assert (first.outcome, second.outcome, champion("gone")) == (Outcome.PROMOTED, Outcome.REJECTED, 1)


def unset(model: BaseModel, path: str = "") -> list[str]:
    """Dotted keys that a spec file leaves to their defaults."""
    missing = [f"{path}{name}" for name in type(model).model_fields if name not in model.model_fields_set]
    for name in model.model_fields_set:
        value = getattr(model, name)
        for part in value if isinstance(value, tuple) else [value]:
            missing += unset(part, f"{path}{name}.") if isinstance(part, BaseModel) else []
    return missing


def test_a_version_holds_every_key_of_its_spec_so_that_no_later_default_changes_its_answers(
    promoted: Finished, tmp_path: Path
) -> None:
    written = files_of(promoted, tmp_path) / "artifacts/soft_prompt/spec.yaml"
    assert unset(load_spec(promoted.folder / "toy.yaml")) != []
    assert unset(load_spec(written)) == []
    assert yaml.safe_load(written.read_text(encoding="utf-8")) == promoted.task.spec.model_dump(mode="json")


def test_the_first_version_skips_comparisons_with_a_champion(promoted: Finished) -> None:
    assert promoted.results.champion is None
    assert [gate.status for gate in promoted.decision.results] == ["passed", "passed", "skipped"]


def resolved(spec: Path) -> ResolvedTask:
    return resolving.resolve(load_spec(spec))


@pytest.fixture
def task(taught_base: Path, tmp_path: Path) -> Callable[..., Path]:
    return lambda **changes: write_toy(tmp_path / "data", taught_base, name="fingerprints", **changes)


def test_whatever_decides_the_result_changes_the_fingerprint(
    task: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "library"
    shutil.copytree(Path(resolving.__file__).parents[1], tree, ignore=shutil.ignore_patterns("model", "__pycache__"))
    monkeypatch.setattr(resolving, "library_fingerprint", lambda: tree_fingerprint(tree))
    before = resolved(task())
    assert resolved(task()) == before
    looser = resolved(task(gates=[{"metric": "accuracy", "at_least": 0.7}]))
    approved = resolved(task(approval="required"))
    harder = resolved(task(evaluation={"hard_prompts": ["{input}\nSo:"]}))
    for decided in (looser, approved, harder):
        assert decided.fingerprints.all != before.fingerprints.all
        assert decided.fingerprints.training == before.fingerprints.training  # no need to train again
    longer = resolved(task(prompt={"length": 5}))
    faster = resolved(task(training={"learning_rate": 0.1}))
    path = task()
    data = path.parent / "train.csv"
    written = data.read_text()
    data.write_text(written.replace("film", "book", 1))
    row = resolved(path)
    data.write_text(written)
    with (tree / "training" / "loop.py").open("a") as source:
        source.write("# another step\n")
    library = resolved(path)
    changed = [task.fingerprints for task in (before, longer, faster, row, library)]
    assert len({each.training for each in changed}) == len({each.all for each in changed}) == len(changed)


def test_what_decides_nothing_leaves_the_fingerprint(task: Callable[..., Path], taught_base: Path, tmp_path: Path) -> None:
    before = resolved(task())
    words = resolved(task(description="Other words.", schedule={"cron": "0 3 * * 1"}))
    moved = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "data", moved)
    base = Path(shutil.copytree(taught_base, tmp_path / "copy"))
    places = resolved(write_toy(moved, base, name="fingerprints"))
    assert words.fingerprints.all == places.fingerprints.all == before.fingerprints.all


def test_a_label_that_begins_another_is_ranked_by_its_whole_text(taught_base: Path, tmp_path: Path) -> None:
    target = {"column": "label", "labels": {"positive": "not sure", "negative": "not"}}
    data = {"source": {"files": {s: f"{s}.csv" for s in ("train", "validation", "test")}}, "input": "{text}", "target": target}
    spec = load_spec(write_toy(tmp_path, taught_base, name="beginnings", data=data))
    resolved_task = resolving.resolve(spec)
    trained = train(resolved_task)[0]
    candidate = evaluate(resolved_task, trained.prompt).candidate
    assert not list(resolved_task.workspace.folder.glob("*evidence*"))  # results are returned, not left in a file
    assert set(candidate.predicted) == {"not", "not sure"}
    assert sum(a == b for a, b in zip(candidate.predicted, candidate.gold, strict=True)) >= 0.9 * len(candidate.gold)
    base, prompt = load_base(spec.base_model), SoftPrompt.load(trained.prompt)
    shared = answer_ids(base, "not", close=False)
    end, sure = base.tokenizer.eos_token_id, answer_ids(base, "not sure", close=False)[len(shared)]
    texts = [example.input for example in resolved_task.data.splits["test"]][:4]
    for text_ids, scores in zip(encode_inputs(base, texts, 100)[0], candidate.scores, strict=False):
        with torch.no_grad():
            logits = plain_target_logits(base, prompt.weights, prompt.position, [TokenizedRow(text_ids, (*shared, end))])[0]
        # Behind the word that both begin with, the text ends or goes on.
        assert scores == pytest.approx(logits[-1, [sure, end]].log_softmax(0).tolist(), abs=1e-4)


GENERATION = {"input": "{text}", "target": {"template": "{label}"}}


@pytest.mark.parametrize(
    "family, position, data, columns",
    [
        ("t5", "prefix", {"input": "{text}", "target": {"column": "label"}}, ["prediction", "probability"]),
        ("t5", "prefix", GENERATION, ["prediction"]),
        ("gpt2", "suffix", GENERATION, ["prediction"]),
    ],
)
def test_other_kinds_of_base_and_task_go_the_same_way(
    tmp_path: Path, family: str, position: str, data: dict[str, Any], columns: list[str]
) -> None:
    data = {"source": {"files": {s: f"{s}.csv" for s in ("train", "validation", "test")}}, **data}
    base, evaluation = save_tiny(tmp_path / family, family), {"max_new_tokens": 5}
    finished = run(
        write_toy(tmp_path, base, name=f"{family}-{len(columns)}", data=data, training=SHORT, gates=None, evaluation=evaluation)
    )
    assert finished.outcome is Outcome.REJECTED and "No gates, no promotion" in finished.decision.verdict
    assert SoftPrompt.load(finished.candidate.prompt).position == position
    answers = mlflow.pyfunc.load_model(f"models:/{finished.task.name}/1").predict(frame(finished)[["text"]])
    assert list(answers.columns) == columns
    assert tuple(answers["prediction"]) == finished.results.candidate.predicted
