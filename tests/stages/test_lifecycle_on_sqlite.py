"""The stages one after the other, without Prefect, on a real record: what a version holds, and who is compared with whom."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import torch

from softprompt_core import registry
from softprompt_core.base_model import load_base
from softprompt_core.data import load_task_data
from softprompt_core.encoding import Row, answer_ids, encode_inputs
from softprompt_core.errors import Outcome
from softprompt_core.fingerprint import tree_fingerprint
from softprompt_core.forward.plain import plain_target_logits
from softprompt_core.gates import Decision
from softprompt_core.serving import Predictor
from softprompt_core.soft_prompt import SoftPrompt
from softprompt_core.spec import PromptSpec, load_spec
from softprompt_core.stages import inputs as inputs_stage
from softprompt_core.stages import record, reporting
from softprompt_core.stages.evaluation import evaluate
from softprompt_core.stages.evidence import Evidence
from softprompt_core.stages.inputs import Inputs, gather
from softprompt_core.stages.promotion import act, judge
from softprompt_core.stages.registration import register
from softprompt_core.stages.trained import Trained
from softprompt_core.stages.training import train_seeds
from tests.tiny_models import save_tiny
from tests.toy_task import rows, write_rows, write_toy

SHORT = {"max_steps": 4, "eval_every": 2, "batch_size": 16}
PLAIN_FILES = {
    "MLmodel",
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


@dataclass(frozen=True)
class Ended:
    """Everything that one lifecycle left."""

    spec: PromptSpec
    inputs: Inputs
    trained: Trained
    evidence: Evidence
    decision: Decision
    outcome: Outcome
    version: int
    folder: Path


def lifecycle(path: Path) -> Ended:
    """The stages in their order, as a script would call them."""
    spec, client = load_spec(path), record.client()
    champion = registry.by_alias(client, spec.name, registry.tags.CHAMPION)
    inputs = gather(spec)
    trained = train_seeds(spec, inputs)[0]
    folder = None
    if champion is not None:
        folder = registry.download(client, spec.name, champion.version, inputs.workspace.folder / f"champion-{champion.version}")
    evidence = Evidence.load(evaluate(spec, inputs, Path(trained.prompt), folder))
    decision = judge(spec, evidence)
    experiment, run_id = reporting.open_run(client, spec, inputs, None)
    words = reporting.describe_version(spec, inputs, evidence, decision, experiment, run_id)
    version = register(spec, inputs, client, run_id, Path(trained.prompt), words).version
    outcome = act(client, spec, version, champion.version if champion else None, decision, run_id, by="a test")
    return Ended(spec, inputs, trained, evidence, decision, outcome, version, path.parent)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One record for all tests, which use different task names: making its tables takes seconds."""
    return tmp_path_factory.mktemp("stages") / "home"


@pytest.fixture(autouse=True)
def at_home(home: Path, isolated_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTPROMPT_HOME", str(home))
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", f"sqlite:///{home / 'mlflow.db'}")


@pytest.fixture(scope="module")
def promoted(home: Path, taught_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTPROMPT_HOME", str(home))
        return lifecycle(write_toy(tmp_path_factory.mktemp("toy"), taught_base))


def champion(name: str) -> int | None:
    return registry.aliases(record.client(), name).get(registry.tags.CHAMPION)


def files_of(ended: Ended, to: Path) -> Path:
    place = record.client().get_model_version_download_uri(ended.spec.name, str(ended.version))
    return Path(mlflow.artifacts.download_artifacts(place, dst_path=str(to)))


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def frame(ended: Ended, split: str = "test") -> pd.DataFrame:
    return pd.read_csv(ended.folder / f"{split}.csv")


def accuracy(evidence: Evidence, scorer: str) -> float:
    return evidence.metrics()[scorer]["accuracy"]


def test_a_learnable_task_becomes_champion(promoted: Ended) -> None:
    assert promoted.outcome is Outcome.PROMOTED and promoted.version == 1
    assert champion("toy") == 1
    assert accuracy(promoted.evidence, "candidate") >= 0.8 > accuracy(promoted.evidence, "majority")


def test_a_suffix_version_holds_exactly_these_files_in_little_space(promoted: Ended, tmp_path: Path) -> None:
    folder = files_of(promoted, tmp_path)
    assert names_in(folder) == PLAIN_FILES
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 200_000
    stored = SoftPrompt.load(folder / "artifacts/soft_prompt/soft_prompt.safetensors")
    assert torch.equal(stored.weights, SoftPrompt.load(Path(promoted.trained.prompt)).weights)
    assert stored.labels == ("negative", "positive") and stored.base == promoted.inputs.base


def test_a_prefix_version_holds_the_peft_files_as_well(taught_base: Path, tmp_path: Path) -> None:
    ended = lifecycle(write_toy(tmp_path, taught_base, name="prefix", prompt={"length": 4, "position": "prefix"}, training=SHORT))
    folder = files_of(ended, tmp_path / "version")
    assert names_in(folder) == PLAIN_FILES | PEFT_FILES
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 200_000


def test_the_served_champion_answers_as_the_evidence_says(promoted: Ended) -> None:
    served = mlflow.pyfunc.load_model("models:/toy@champion")
    answers = served.predict(frame(promoted)[["text"]])
    assert tuple(answers["prediction"]) == promoted.evidence.candidate.predicted
    best = [max(torch.tensor(row, dtype=torch.float64).softmax(0).tolist()) for row in promoted.evidence.candidate.scores]
    assert answers["probability"].tolist() == pytest.approx(best, abs=1e-4)


def test_everyone_is_scored_on_the_same_rows_and_the_champion_anew(taught_base: Path, tmp_path: Path) -> None:
    path = write_toy(tmp_path, taught_base, name="again")
    first = lifecycle(path)
    harder = rows(40, seed=9)
    for row in harder[:20]:  # the champion's answers to these are wrong now
        row["label"] = {"positive": "negative", "negative": "positive"}[row["label"]]
    write_rows(tmp_path / "test.csv", harder)
    second = lifecycle(path)
    ids = {name: (p.ids, p.gold) for name, p in second.evidence.scorers().items()}
    assert set(ids) == {"candidate", "champion", "hard_prompt", "majority"} and len(set(ids.values())) == 1
    assert len(second.evidence.candidate.ids) == 40
    # Rows turned round: about half of the answers are right, whatever number is stored for version 1.
    assert accuracy(first.evidence, "candidate") >= 0.8
    assert accuracy(second.evidence, "champion") == pytest.approx(0.5, abs=0.15)
    version = second.inputs.workspace.folder / "champion-1" / "soft_prompt"
    assert second.evidence.champion is not None
    assert second.evidence.champion.predicted == tuple(Predictor.load(version).predict(frame(second)[["text"]])["prediction"])
    assert second.outcome is Outcome.REJECTED and champion("again") == 1


def test_a_champion_of_another_base_is_scored_on_its_own(taught_base: Path, tmp_path: Path) -> None:
    first = lifecycle(write_toy(tmp_path, taught_base, name="moved"))
    other = save_tiny(tmp_path / "random", "llama")
    second = lifecycle(write_toy(tmp_path, other, name="moved", training=SHORT))
    assert second.evidence.champion is not None and second.evidence.champion_problem is None
    assert second.evidence.champion.predicted == first.evidence.candidate.predicted
    assert second.evidence.champion.loss == pytest.approx(first.evidence.candidate.loss, abs=1e-5)
    assert second.outcome is Outcome.REJECTED and champion("moved") == 1


def test_a_champion_that_cannot_be_scored_is_never_beaten(taught_base: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(taught_base, tmp_path / "own"))
    gates = [{"metric": "accuracy", "at_least": 0.1}, {"metric": "accuracy", "versus": "champion", "margin": 1.0}]
    assert lifecycle(write_toy(tmp_path, own, name="lost", gates=gates, training=SHORT)).outcome is Outcome.PROMOTED
    shutil.rmtree(own)
    other = save_tiny(tmp_path / "random", "llama")
    second = lifecycle(write_toy(tmp_path, other, name="lost", gates=gates, training=SHORT))
    assert "no such folder" in (second.evidence.champion_problem or "")
    assert [gate.status for gate in second.decision.results] == ["passed", "failed"]
    assert second.outcome is Outcome.REJECTED and champion("lost") == 1


def test_the_first_version_skips_comparisons_with_a_champion(promoted: Ended) -> None:
    assert promoted.evidence.champion is None
    assert [gate.status for gate in promoted.decision.results] == ["passed", "passed", "skipped"]


@pytest.fixture
def task(taught_base: Path, tmp_path: Path) -> Callable[..., Path]:
    return lambda **changes: write_toy(tmp_path / "data", taught_base, name="fingerprints", **changes)


def test_whatever_decides_the_result_changes_the_fingerprint(
    task: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "library"
    shutil.copytree(Path(inputs_stage.__file__).parents[1], tree, ignore=shutil.ignore_patterns("model", "__pycache__"))
    monkeypatch.setattr(inputs_stage, "library_fingerprint", lambda: tree_fingerprint(tree))
    before = gather(load_spec(task()))
    assert gather(load_spec(task())) == before
    looser = gather(load_spec(task(gates=[{"metric": "accuracy", "at_least": 0.7}])))
    approved = gather(load_spec(task(approval="required")))
    harder = gather(load_spec(task(evaluation={"hard_prompts": ["{input}\nSo:"]})))
    for decided in (looser, approved, harder):
        assert decided.whole != before.whole and decided.training == before.training  # no need to train again
    longer = gather(load_spec(task(prompt={"length": 5})))
    faster = gather(load_spec(task(training={"learning_rate": 0.1})))
    path = task()
    data = path.parent / "train.csv"
    written = data.read_text()
    data.write_text(written.replace("film", "book", 1))
    row = gather(load_spec(path))
    data.write_text(written)
    with (tree / "training" / "loop.py").open("a") as source:
        source.write("# another step\n")
    library = gather(load_spec(path))
    found = [before, longer, faster, row, library]
    assert len({i.training for i in found}) == len({i.whole for i in found}) == len(found)


def test_what_decides_nothing_leaves_the_fingerprint(task: Callable[..., Path], taught_base: Path, tmp_path: Path) -> None:
    before = gather(load_spec(task()))
    words = gather(load_spec(task(description="Other words.", schedule={"cron": "0 3 * * 1"})))
    moved = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "data", moved)
    base = Path(shutil.copytree(taught_base, tmp_path / "copy"))
    places = gather(load_spec(write_toy(moved, base, name="fingerprints")))
    assert words.whole == places.whole == before.whole


def test_a_label_that_begins_another_is_ranked_by_its_whole_text(taught_base: Path, tmp_path: Path) -> None:
    target = {"column": "label", "labels": {"positive": "not sure", "negative": "not"}}
    data = {"source": {"files": {s: f"{s}.csv" for s in ("train", "validation", "test")}}, "input": "{text}", "target": target}
    spec = load_spec(write_toy(tmp_path, taught_base, name="beginnings", data=data))
    inputs = gather(spec)
    trained = train_seeds(spec, inputs)[0]
    candidate = Evidence.load(evaluate(spec, inputs, Path(trained.prompt), None)).candidate
    assert set(candidate.predicted) == {"not", "not sure"}
    assert sum(a == b for a, b in zip(candidate.predicted, candidate.gold, strict=True)) >= 0.9 * len(candidate.gold)
    base, prompt = load_base(spec.base_model), SoftPrompt.load(Path(trained.prompt))
    shared = answer_ids(base, "not", close=False)
    end, sure = base.tokenizer.eos_token_id, answer_ids(base, "not sure", close=False)[len(shared)]
    texts = [example.input for example in load_task_data(inputs.workspace.data).splits["test"]][:4]
    for text_ids, scores in zip(encode_inputs(base, texts, 100)[0], candidate.scores, strict=False):
        with torch.no_grad():
            logits = plain_target_logits(base, prompt.weights, prompt.position, [Row(text_ids, (*shared, end))])[0]
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
    ended = lifecycle(
        write_toy(tmp_path, base, name=f"{family}-{len(columns)}", data=data, training=SHORT, gates=None, evaluation=evaluation)
    )
    assert ended.outcome is Outcome.REJECTED and "No gates, no promotion" in ended.decision.verdict
    assert SoftPrompt.load(Path(ended.trained.prompt)).position == position
    answers = mlflow.pyfunc.load_model(f"models:/{ended.spec.name}/1").predict(frame(ended)[["text"]])
    assert list(answers.columns) == columns
    assert tuple(answers["prediction"]) == ended.evidence.candidate.predicted
