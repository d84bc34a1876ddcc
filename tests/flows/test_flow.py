"""The flow on a real Prefect server and a real record: one outcome a lifecycle, the same in Prefect, MLflow and the exit code."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from mlflow.entities import Run

from softprompt_core.errors import Outcome
from softprompt_core.lifecycle.result import LifecycleResult, exit_code
from softprompt_core.settings import home
from softprompt_core.soft_prompt import SoftPrompt
from softprompt_core.spec import spec_files
from softprompt_core.store import tags, versions
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger import entries
from tests.toy_task import too_large, toy, write_toy

SHORT = {"max_steps": 4, "eval_every": 2, "batch_size": 16}
IMPOSSIBLE = [{"metric": "accuracy", "at_least": 1.01}]

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(autouse=True)
def at_home(flow_home: Path, isolated_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTPROMPT_HOME", str(flow_home))


def run(*paths: Path, force: bool = False) -> list[LifecycleResult]:
    from flows.fleet import run_all

    return run_all(list(paths), force=force)


def mlflow_runs(name: str) -> list[Run]:
    store = Store.connect()
    experiment = store.client.get_experiment_by_name(f"softprompt/{name}")
    return store.client.search_runs([experiment.experiment_id]) if experiment else []


def champion(name: str) -> int | None:
    return versions.aliases(Store.connect(), name).get(tags.CHAMPION)


def flow_run_id(result: LifecycleResult) -> str:
    assert result.prefect_url
    return result.prefect_url.rpartition("/")[2]


def flow_state(result: LifecycleResult) -> tuple[str, str]:
    """Name and type of the flow run's final state, from Prefect's own record."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        state = client.read_flow_run(flow_run_id(result)).state
    return state.name, state.type.value


def trainings(name: str) -> dict[Path, int]:
    """Files of finished trainings, and when each was written: a training that is not repeated writes none."""
    return {file: file.stat().st_mtime_ns for file in (home() / "work" / name).glob("*/training-0.json")}


class Story:
    """What the toy task went through, one lifecycle after the other, and what MLflow held after each."""

    def __init__(self, folder: Path, base: Path) -> None:
        path = write_toy(folder, base)
        (self.promoted,) = run(path)
        self.runs_after_first = len(mlflow_runs("toy"))
        (self.unchanged,) = run(path)
        self.runs_after_second = len(mlflow_runs("toy"))
        self.first_training = trainings("toy")
        (self.awaiting,) = run(write_toy(folder, base, approval="required"))
        self.aliases_while_awaiting = versions.aliases(Store.connect(), "toy")
        impossible = write_toy(folder, base, gates=IMPOSSIBLE)
        (self.rejected,) = run(impossible)
        self.aliases_after_rejection = versions.aliases(Store.connect(), "toy")
        (self.forced,) = run(impossible, force=True)
        self.training_after_forced = trainings("toy")
        for file in (home() / "work" / "toy").glob("*/prompt-0.safetensors"):
            file.unlink()
        (self.without_files,) = run(impossible, force=True)
        self.training_without_files = trainings("toy")
        self.spec = impossible


@pytest.fixture(scope="module")
def story(prefect_server: None, flow_home: Path, taught_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTPROMPT_HOME", str(flow_home))
        return Story(tmp_path_factory.mktemp("toy"), taught_base)


def test_a_first_version_that_passes_its_gates_is_promoted(story: Story) -> None:
    assert (story.promoted.outcome, story.promoted.version) == (Outcome.PROMOTED, 1)
    assert exit_code([story.promoted]) == 0
    assert story.promoted.scores["candidate"] >= 0.8 > story.promoted.scores["majority"]
    assert story.promoted.size_bytes is not None and story.promoted.size_bytes < 200_000


def test_the_same_inputs_again_train_nothing(story: Story) -> None:
    assert (story.unchanged.outcome, story.unchanged.version) == (Outcome.UNCHANGED, 1)
    assert story.runs_after_second == story.runs_after_first == 1
    assert exit_code([story.unchanged]) == 0 and exit_code([story.unchanged], strict=True) == 10
    assert story.unchanged.prefect_url is None  # in a large fleet a flow run for each would take most of the time


def test_a_version_that_needs_approval_waits_and_the_champion_stays(story: Story) -> None:
    assert (story.awaiting.outcome, story.awaiting.version) == (Outcome.AWAITING_APPROVAL, 2)
    assert story.aliases_while_awaiting == {"champion": 1, "challenger": 2}
    assert exit_code([story.awaiting]) == 30
    assert "champion" in story.awaiting.scores  # it was scored beside the candidate


def test_a_gate_that_cannot_be_passed_rejects_and_the_champion_stays(story: Story) -> None:
    assert (story.rejected.outcome, story.rejected.version) == (Outcome.REJECTED, 3)
    assert story.aliases_after_rejection == {"champion": 1, "challenger": 3}
    assert exit_code([story.rejected]) == 20 and exit_code([story.promoted, story.rejected, story.unchanged]) == 20


def test_a_finished_training_is_not_repeated_unless_its_files_are_gone(story: Story) -> None:
    assert len(story.first_training) == 1
    assert story.training_after_forced == story.first_training  # approval and gates are no inputs of a training
    assert story.training_without_files.keys() == story.first_training.keys()
    assert story.training_without_files != story.first_training
    assert story.forced.scores == story.without_files.scores  # the same seed gives the same prompt again
    assert story.without_files.version == 5


def test_prefect_names_the_final_state_after_the_outcome(story: Story) -> None:
    assert flow_state(story.promoted) == ("Promoted", "COMPLETED")
    assert flow_state(story.awaiting) == ("Awaiting approval", "COMPLETED")
    assert flow_state(story.rejected) == ("Rejected", "COMPLETED")


def test_prefect_shows_the_gate_report_and_the_way_to_the_mlflow_run(story: Story) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    from flows.results import published

    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id(story.promoted)]))
    with get_client(sync_client=True) as client:
        found = {artifact.key: str(artifact.data) for artifact in client.read_artifacts(artifact_filter=wanted)}
        assert published(client, UUID(flow_run_id(story.promoted))) == story.promoted
    assert set(found) == {"gate-report", "mlflow-run", "softprompt-result"}
    assert "accuracy at least 0.8" in found["gate-report"]
    assert story.promoted.run_url is not None and story.promoted.run_url in found["mlflow-run"]


def test_the_mlflow_run_tells_a_reviewer_everything(story: Story) -> None:
    store = Store.connect()
    found = store.client.get_run(story.awaiting.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.tags[tags.OUTCOME] == "awaiting_approval"
    assert found.data.tags["mlflow.note.content"].startswith("toy: awaiting approval. Test accuracy ")
    assert found.data.tags[tags.PREFECT_RUN] == flow_run_id(story.awaiting)
    for scorer in ("test", "champion", "hard_prompt", "majority"):
        assert f"{scorer}/accuracy" in found.data.metrics, scorer
    assert found.data.metrics["test/accuracy"] == story.awaiting.scores["candidate"]
    assert {"train/loss", "validation/accuracy", "slice_film/accuracy"} <= set(found.data.metrics)
    table = json.loads(Path(store.client.download_artifacts(found.info.run_id, "evaluation/examples.json")).read_text())
    assert {"id", "input", "gold", "predicted", "champion", "hard_prompt"} <= set(table["columns"]) and len(table["data"]) == 32
    for file in ("spec.yaml", "data/report.md", "training/curve.png", "evaluation/confusion.png", "gates/report.md"):
        assert Path(store.client.download_artifacts(found.info.run_id, file)).stat().st_size > 0
    version = versions.get(store, "toy", 2)
    assert version.run_id == found.info.run_id and version.tags[tags.OUTCOME] == "awaiting_approval"


def test_the_ledger_has_one_entry_a_decision(story: Story) -> None:
    history = entries.history(Store.connect(), "toy")
    assert [(e.action, e.candidate, e.previous_champion, e.status) for e in history] == [
        ("promote", 1, None, "completed"),
        ("await", 2, 1, "completed"),
        *(("reject", version, 1, "completed") for version in (3, 4, 5)),
    ]


def test_no_gates_reject_and_one_changed_row_trains_again(taught_base: Path, tmp_path: Path) -> None:
    path = write_toy(tmp_path, taught_base, name="rows", gates=None, training=SHORT)
    (first,) = run(path)
    assert first.outcome is Outcome.REJECTED and "No gates, no promotion" in first.reason
    assert champion("rows") is None
    (second,) = run(path)
    assert (second.outcome, second.stands_for) == (Outcome.UNCHANGED, Outcome.REJECTED)  # a rejection is a decision too
    assert exit_code([second]) == 20 and "version 1 (rejected)" in second.reason
    data = tmp_path / "train.csv"
    data.write_text(data.read_text().replace("film", "book", 1))
    (third,) = run(path)
    assert (third.outcome, third.version) == (Outcome.REJECTED, 2)
    assert len(trainings("rows")) == len(mlflow_runs("rows")) == 2


def test_a_bad_spec_and_a_name_that_is_taken_stop_nobody_else(story: Story, tmp_path: Path) -> None:
    from flows.fleet import fleet

    (tmp_path / "bad.yaml").write_text("name: bad\ndatta: {}\n")
    missing = write_toy(tmp_path / "gone", "bundled", name="gone")
    (missing.parent / "train.csv").unlink()
    copy = Path(shutil.copy(story.spec, tmp_path / "same-name.yaml"))
    results = run(tmp_path / "bad.yaml", missing, story.spec, copy)
    assert [result.outcome.value for result in results] == ["invalid", "invalid", "unchanged", "invalid"]
    assert f"{tmp_path / 'bad.yaml'}:2: unknown key `datta`" in results[0].reason
    assert f"the name `toy` is taken by {story.spec}" in results[3].reason
    assert flow_state(results[1]) == ("Invalid", "FAILED")
    assert exit_code(results) == 40
    state = fleet([str(tmp_path / "bad.yaml"), str(story.spec)], return_state=True)
    assert state.is_failed() and state.message == "1 invalid, 1 unchanged (rejected)"


def test_a_folder_stands_for_the_specs_that_are_in_it_when_the_run_starts(story: Story, tmp_path: Path) -> None:
    from flows.fleet import fleet

    assert fleet([str(story.spec.parent)], return_state=True).message == "1 unchanged (rejected)"
    state = fleet([str(tmp_path)], return_state=True)
    assert (state.type.value, state.name) == ("FAILED", "Invalid") and "holds no spec files" in str(state.message)


def test_of_several_seeds_the_best_on_validation_is_registered(taught_base: Path, tmp_path: Path) -> None:
    path = write_toy(tmp_path, taught_base, name="seeds", gates=None, training={**SHORT, "max_steps": 10, "seeds": 2})
    (result,) = run(path)
    by_name = {r.info.run_name: r for r in mlflow_runs("seeds")}
    scores = f"{result.scores['candidate']:.3f}"
    parent = by_name.pop(f"v1 rejected {scores}")
    assert {name.rpartition(" ")[0] for name in by_name} == {"seed 0", "seed 1"}
    assert all(0 <= float(name.rpartition(" ")[2]) <= 1 for name in by_name)
    assert all(r.data.tags["mlflow.parentRunId"] == parent.info.run_id for r in by_name.values())
    assert all(r.info.status == "FINISHED" for r in (parent, *by_name.values()))
    (work,) = (home() / "work" / "seeds").iterdir()

    def best_check(seed: int) -> tuple[float, float]:
        history = json.loads((work / f"training-{seed}.json").read_text())["history"]
        return max((entry["validation_metric"], -entry["validation_loss"]) for entry in history)

    best = max((0, 1), key=best_check)
    assert best_check(0) != best_check(1)
    assert result.version is not None
    folder = versions.download(Store.connect(), "seeds", result.version, tmp_path / "version")
    stored = SoftPrompt.load(folder / "soft_prompt.safetensors").digest
    assert [SoftPrompt.load(work / f"prompt-{seed}.safetensors").digest == stored for seed in (0, 1)] == [best == 0, best == 1]


def test_a_training_without_a_finite_prompt_is_diverged_and_registers_nothing(taught_base: Path, tmp_path: Path) -> None:
    (result,) = run(write_toy(tmp_path, taught_base, name="nan", training=SHORT, **too_large(tmp_path, taught_base)))
    assert result.outcome is Outcome.DIVERGED and exit_code([result]) == 41
    assert flow_state(result) == ("Diverged", "FAILED")
    (left,) = mlflow_runs("nan")
    assert left.info.status == "FAILED" and left.data.tags[tags.OUTCOME] == "diverged"
    assert left.data.tags["mlflow.note.content"].startswith("nan: diverged.")
    assert versions.list_versions(Store.connect(), "nan") == []


def test_a_failure_that_nobody_foresaw_closes_the_run_and_does_not_stop_the_fleet(
    taught_base: Path, tmp_path: Path, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    from softprompt_core.lifecycle import steps

    def bug(task: Any, candidate: Any, champion: Any) -> None:
        raise KeyError("nobody thought of this")

    monkeypatch.setattr(steps, "evaluate_candidate", bug)
    path = write_toy(tmp_path, taught_base, name="disk", training=SHORT)
    failed, other = run(path, story.spec)
    assert failed.outcome is Outcome.UNAVAILABLE and "KeyError: 'nobody thought of this' (traceback" in failed.reason
    assert other.outcome is Outcome.UNCHANGED
    assert [r.info.status for r in mlflow_runs("disk")] == ["FAILED"]
    assert champion("disk") is None and versions.list_versions(Store.connect(), "disk") == []


def test_no_file_of_a_fleet_stops_the_others_whatever_it_holds(tmp_path: Path, story: Story) -> None:
    texts = {
        "anchor": "x: &x [*x]\n",
        "brackets": "[" * 3000,
        "deep": "{a: " * 3000,
        "integer": "name: !!int rel-a\n",
        "boolean": "name: !!bool x\n",
        "date": "name: !!timestamp abc\n",
        "bomb": "a: &a [x]\n" + "".join(f"a{i}: &a{i} [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n" for i in range(30)),
        "comment": "# comment\n" * 3_000_000,
        "zero": "name: \0\n",
        "long": f"name: {'x' * 100_000}\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    (tmp_path / "wide.yaml").write_bytes("name: x\n".encode("utf-16"))
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "nowhere.yaml").symlink_to(tmp_path / "gone.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    paths = spec_files(tmp_path)
    assert len(paths) == len(texts) + 4
    *broken, other = run(*paths, story.spec)
    assert {result.outcome for result in broken} == {Outcome.INVALID} and other.outcome is Outcome.UNCHANGED
    assert all(len(result.reason) < 2000 and "Traceback" not in result.reason for result in broken)


@pytest.fixture
def starting_from_the_champion(taught_base: Path, tmp_path: Path) -> Callable[[int], Path]:
    def path(length: int) -> Path:
        changes: dict[str, Any] = {"name": "heirs", "gates": [{"metric": "accuracy", "at_least": 0.1}], "training": SHORT}
        return write_toy(tmp_path, taught_base, prompt={"length": length, "init": "champion"}, **changes)

    return path


def test_a_champion_of_another_length_is_no_start_and_leaves_no_run(
    starting_from_the_champion: Callable[[int], Path],
) -> None:
    (first,) = run(starting_from_the_champion(4))  # there is no champion yet: it starts from the labels
    assert first.outcome is Outcome.PROMOTED
    before = len(mlflow_runs("heirs"))
    (second,) = run(starting_from_the_champion(6))
    assert second.outcome is Outcome.INVALID and "set prompt.length to 4" in second.reason
    assert len(mlflow_runs("heirs")) == before and champion("heirs") == 1


def test_the_flow_takes_plain_data_as_well(story: Story) -> None:
    from flows.final_states import FlowFailed
    from flows.lifecycle import lifecycle

    state = lifecycle({**toy("bundled"), "nmae": "toy"}, return_state=True)
    assert (state.name, state.type.value) == ("Invalid", "FAILED")
    with pytest.raises(FlowFailed, match="unknown key `nmae`"):  # what Prefect prints on a worker
        state.result()
    assert state.message is not None and "unknown key `nmae`; did you mean `name`?" in state.message
