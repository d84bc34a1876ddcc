"""`softprompt sweep` on a real Prefect server and a real record: what it shows, what MLflow keeps, what is never done twice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from safetensors import safe_open

from softprompt_core.settings import home
from softprompt_core.spec import load_spec
from softprompt_core.store import tags, versions
from softprompt_core.store.connection import Store
from tests.toy_task import too_large, write_toy

SHORT = {"max_steps": 20, "eval_every": 5, "batch_size": 16, "patience": 20}
Here = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(autouse=True)
def at_home(flow_home: Path, isolated_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTPROMPT_HOME", str(flow_home))


def runs(name: str, where: str = "") -> list[Run]:
    store = Store.connect()
    experiment = store.client.get_experiment_by_name(f"softprompt/{name}")
    return list(store.client.search_runs([experiment.experiment_id], where)) if experiment else []


def checkpoints(name: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (home() / "work" / name).glob("*/checkpoint-*.safetensors")}


def test_a_sweep_is_shown_kept_in_mlflow_and_its_best_point_runs_without_training(
    taught_base: Path, tmp_path: Path, here: Here
) -> None:
    spec = write_toy(tmp_path, taught_base, name="swept", training={**SHORT, "seeds": 2})
    chosen = tmp_path / "chosen.yaml"
    axes = ("--grid", "prompt.length=1,4", "--grid", "prompt.init=vocabulary,uniform")
    code, out, err = here("sweep", spec, *axes, "--write-spec", chosen)
    assert code == 0 and out.splitlines()[-1] == "swept", err
    assert "Test rows played no part, and nothing was registered." in out and "24 validation rows" in out
    assert versions.list_versions(Store.connect(), "swept") == []

    # One run for the sweep, one below it for each point, one below that for each seed.
    (parent,) = runs("swept", "tags.`softprompt.kind` = 'sweep'")
    below = runs("swept", "tags.`softprompt.kind` = 'sweep_point'")
    assert {run.data.tags["mlflow.parentRunId"] for run in below} == {parent.info.run_id} and len(below) == 4
    seeds = [run for run in runs("swept") if run.info.run_name.startswith("seed ")]
    assert len(seeds) == 8 and {run.data.tags["mlflow.parentRunId"] for run in seeds} == {run.info.run_id for run in below}
    assert all(run.info.status == "FINISHED" for run in runs("swept"))
    assert {(run.data.params["prompt.length"], run.data.params["prompt.init"]) for run in below} == {
        (length, init) for length in ("1", "4") for init in ("vocabulary", "uniform")
    }
    store = Store.connect()
    curve = [entry.step for entry in store.client.get_metric_history(below[0].info.run_id, "validation/accuracy")]
    assert curve == [0, 5, 10, 15, 20]
    best = max(below, key=lambda run: run.data.metrics["sweep/accuracy"])
    assert parent.data.metrics["sweep/accuracy"] == best.data.metrics["sweep/accuracy"]
    assert parent.data.params["grid.prompt.length"] == "1, 4" and "prompt.length" not in parent.data.params
    words = parent.data.tags["mlflow.note.content"]
    assert words.startswith("swept: sweep of 4 points. Best on validation: ") and "test rows played no part" in words
    files = {item.path for item in store.client.list_artifacts(parent.info.run_id, "sweep")}
    assert files == {"sweep/points.json", "sweep/points.png", "sweep/chosen.yaml"}

    # The same again: found finished, and not written a second time. --json says what the table said.
    before = checkpoints("swept")
    code, out, err = here("sweep", spec, *axes, "--one-standard-error", "--json")
    again = json.loads(out)
    assert (code, again["outcome"], again["run_id"]) == (0, "swept", parent.info.run_id) and "step" not in err
    points = again["points"]
    assert len(points) == 4 and all(len(point["seeds"]) == 2 for point in points)
    top = max(point["metric"] for point in points)
    assert points[again["best"]]["metric"] == top == parent.data.metrics["sweep/accuracy"]
    close = [point["length"] for point in points if point["metric"] >= top - points[again["best"]]["error"]]
    assert points[again["frugal"]]["length"] == min(close) and again["chosen"] == again["frugal"]
    assert checkpoints("swept") == before and len(runs("swept")) == 13

    # The written spec is the best point, and its lifecycle finds it trained.
    written = load_spec(chosen).prompt
    assert {"prompt.length": written.length, "prompt.init": written.init} == points[again["best"]]["settings"]
    code, out, err = here("run", chosen, "--json")
    (result,) = json.loads(out)
    assert result["version"] == 1 and "step" not in err
    assert checkpoints("swept") == before


def test_mistakes_and_a_silent_store_exit_with_their_codes_and_write_nothing(
    taught_base: Path, tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = write_toy(tmp_path, taught_base, name="mistaken", training=SHORT)
    code, out, err = here("sweep", spec, "--grid", "prompt.lenght=1")
    assert code == 40 and out == "" and "did you mean `length`?" in err and "Traceback" not in err
    code, out, _ = here("sweep", spec, "--grid", "prompt.length=1,1000", "--json")
    found = json.loads(out)
    assert (code, found["outcome"], found["exit_code"]) == (40, "invalid", 40) and "--grid prompt.length=1000" in found["reason"]
    code, _, err = here("sweep", spec, "--grid", "prompt.length=1,2", "--max-points", "1")
    assert code == 40 and "--max-points 2" in err
    assert runs("mistaken") == [] and checkpoints("mistaken") == {}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    code, _, err = here("sweep", spec, "--grid", "prompt.length=1")
    assert code == 50 and "MLflow at http://127.0.0.1:9" in err


def test_a_point_that_diverges_is_shown_and_only_all_of_them_fail(taught_base: Path, tmp_path: Path, here: Here) -> None:
    spec = write_toy(tmp_path, taught_base, name="broken", training=SHORT, **too_large(tmp_path, taught_base))
    code, out, _ = here("sweep", spec, "--grid", "base_model.dtype=float16,float32")
    assert code == 0 and out.count("diverged") == 1 and out.splitlines()[-1] == "swept"
    ended = {run.data.tags[tags.KIND]: run for run in runs("broken", "attributes.status = 'FAILED'")}
    assert list(ended) == ["sweep_point"] and ended["sweep_point"].data.tags[tags.OUTCOME] == "diverged"
    code, out, _ = here("sweep", spec, "--grid", "base_model.dtype=float16")
    assert code == 41 and out.splitlines()[-1] == "diverged" and "no point gave a finite prompt" in out
    assert len(runs("broken", "tags.`softprompt.kind` = 'sweep' and attributes.status = 'FAILED'")) == 1


def test_points_start_from_the_champion_where_they_are_told_to(taught_base: Path, tmp_path: Path, here: Here) -> None:
    spec = write_toy(tmp_path, taught_base, name="heir", gates=[{"metric": "accuracy", "at_least": 0.0}], training=SHORT)
    assert here("run", spec)[0] == 0
    code, out, err = here("sweep", spec, "--grid", "prompt.init=champion,labels", "--json")
    found = json.loads(out)
    assert code == 0, err
    heir, fresh = found["points"]
    assert heir["settings"]["prompt.init"] == "champion" and heir["metric"] >= fresh["metric"]
    (run,) = runs("heir", "params.`prompt.init` = 'champion'")
    first = Store.connect().client.get_metric_history(run.info.run_id, "validation/accuracy")[0]
    assert first.step == 0 and first.value == fresh["metric"]  # the champion's own score: it was trained from the labels


def test_a_sweep_that_was_killed_goes_on_where_it_was(taught_base: Path, tmp_path: Path, here: Here) -> None:
    # When the short point is done, the states of both are written.
    training: dict[str, Any] = {**SHORT, "eval_every": 100, "patience": 100}
    spec = write_toy(tmp_path, taught_base, name="killed", training=training)
    axes = ("--grid", "training.max_steps=10,500")
    command = [sys.executable, "-m", "flows.cli", "sweep", str(spec), *axes]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True
        ) as process,
    ):
        deadline = time.monotonic() + 300
        try:
            while not any(state_of(path)["finished"] for path in checkpoints("killed")):
                assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.02)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # its own Prefect server too
    reached = max(state_of(path)["step"] for path in checkpoints("killed"))
    assert 10 <= reached < 500
    (left,) = runs("killed")
    assert left.info.status == "RUNNING"

    code, out, err = here("sweep", spec, *axes)
    assert code == 0 and out.splitlines()[-1] == "swept", err
    first = re.search(r"step (\d+)/500", err)
    assert first and int(first[1]) == reached + 1
    assert {run.info.status for run in runs("killed", "tags.`softprompt.kind` = 'sweep'")} == {"KILLED", "FINISHED"}


def state_of(checkpoint: Path) -> dict[str, Any]:
    with safe_open(checkpoint, framework="pt") as file:
        return dict(json.loads(file.metadata()["state"]))
