"""Lifecycles on a Ray cluster of two nodes on this machine: results as without one, and what a death costs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from softprompt_core.soft_prompt import SoftPrompt
from tests.services.prefect_server import PrefectServer
from tests.services.ray_node import RayNode
from tests.toy_task import write_toy

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray` is not installed"),
    pytest.mark.timeout(1800),  # the first test waits for the whole story
    pytest.mark.nightly,  # the longest story of all; tests/ray_pool holds the pool itself, dead workers included
]

ROOT = Path(__file__).parents[2]
# Longer than the five seconds after which a checkpoint comes, on most machines.
STEPS = 600
LONG = {"max_steps": STEPS, "eval_every": 50, "batch_size": 16, "patience": 1000}


class Command:
    """``softprompt`` in a process of its own, with its lines on stderr."""

    def __init__(self, environment: dict[str, str], *arguments: str | Path) -> None:
        command = [sys.executable, "-m", "flows.cli", *map(str, arguments)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.lines.append(line)

    def until(self, condition: Callable[[], Any], seconds: float = 300) -> Any:
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert self._process.poll() is None and time.monotonic() < deadline, "".join(self.lines)
            time.sleep(0.05)
        return value

    def matches(self, pattern: str) -> set[str]:
        """What the group in the pattern matched in the lines so far. Where nodes share a machine Ray prints lines twice."""
        return {match[1] for line in list(self.lines) if (match := re.search(pattern, line))}

    def ended(self) -> tuple[int, Any]:
        assert self._process.stdout is not None
        out = self._process.stdout.read()
        code = self._process.wait(600)
        self._reader.join()
        return code, json.loads(out)


class Story:
    """One cluster's life: a fleet during which a process is killed and a node dies, then seeds on the one node that is left."""

    def __init__(self, folder: Path, base: Path, blank_database: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        shutil.copy(blank_database, self.home)
        short = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
        try:
            with PrefectServer(folder / "prefect") as server, RayNode(short) as head, RayNode(folder / "node", head) as second:
                self.prefect = server.url
                self.environment = {
                    **os.environ,
                    **head.secret,
                    "SOFTPROMPT_HOME": str(self.home),
                    "PREFECT_HOME": str(folder / "prefect-client"),
                    "PREFECT_API_URL": server.url,
                    "MLFLOW_TRACKING_TOKEN": "a secret",
                    "PYTHONPATH": str(ROOT),
                }
                self._fleet(folder / "fleet", base, second)
                self.flow_runs = self._flow_runs()
                self._seeds(folder / "seeds", base)
                self._sweep(folder / "sweep", base)
        finally:
            shutil.rmtree(short, ignore_errors=True)

    def _fleet(self, folder: Path, base: Path, second: RayNode) -> None:
        for name in ("ray-one", "ray-two"):
            write_toy(folder, base, name=name, training=LONG)
        # The last in order, so that it is still there when the others are killed.
        write_toy(folder, base, name="ray-waits", training={**LONG, "max_steps": 4})
        (folder / "bad.yaml").write_text("name: bad\n")
        command = Command(self.environment, "fleet", folder, "--ray", "--json", "--junit", folder / "junit.xml")
        self.steps: dict[str, int] = {}
        for name in ("ray-one", "ray-two"):
            (pid,) = command.until(lambda name=name: command.matches(rf"{name}: on worker .*process (\d+)"))
            (checkpoint,) = command.until(lambda name=name: list(self.home.glob(f"work/{name}/*/checkpoint-0.safetensors")))
            os.kill(int(pid), signal.SIGSTOP)  # no other checkpoint between the look and the end
            self.steps[name] = step_of(checkpoint)
            if second.holds(int(pid)):
                second.kill()
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)  # after its node too: while it is stopped it does not notice
        self.code, self.results = command.ended()
        self.lines, self.junit = command.lines, (folder / "junit.xml").read_text()

    def _seeds(self, folder: Path, base: Path) -> None:
        path = write_toy(folder, base, name="ray-seeds", training={**LONG, "seeds": 2})
        self.seeds_code, self.seeds_results = Command(self.environment, "run", path, "--ray", "--json").ended()

    def _sweep(self, folder: Path, base: Path) -> None:
        path = write_toy(folder, base, name="ray-sweep", training={**LONG, "max_steps": 4})
        command = Command(self.environment, "sweep", path, "--grid", "prompt.length=1,2", "--ray", "--json")
        self.sweep_code, self.swept = command.ended()
        self.sweep_lines = command.lines

    def began(self, name: str) -> set[int]:
        """The steps that processes began the training at, or after. Where nodes share a machine Ray prints lines twice."""
        first: dict[str, int] = {}
        for line in self.lines:
            if match := re.search(rf"pid=(\d+).* {name} seed 0: step (\d+)/", line):
                first.setdefault(match[1], int(match[2]))
        return set(first.values())

    def _flow_runs(self) -> dict[str, list[str]]:
        import httpx

        runs = httpx.post(f"{self.prefect}/flow_runs/filter", json={}).json()
        self.prefect_records = json.dumps(runs) + httpx.post(f"{self.prefect}/task_runs/filter", json={}).text
        return {name: sorted(run["state"]["name"] for run in runs if run["name"] == name) for name in {r["name"] for r in runs}}

    def prompt(self, name: str, seed: int = 0) -> Any:
        (file,) = self.home.glob(f"work/{name}/*/prompt-{seed}.safetensors")
        return SoftPrompt.load(file).weights


def step_of(checkpoint: Path) -> int:
    from safetensors import safe_open

    with safe_open(checkpoint, framework="pt") as file:
        return int(json.loads(file.metadata()["state"])["step"])


@pytest.fixture(scope="module")
def story(taught_base: Path, blank_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    yield Story(tmp_path_factory.mktemp("ray"), taught_base, blank_database)


def test_every_task_of_a_fleet_ends_in_one_outcome_whatever_happens_to_another(story: Story) -> None:
    outcomes = [(result["task"], result["outcome"], result["version"]) for result in story.results]
    assert outcomes == [
        ("bad", "invalid", None),
        ("ray-one", "promoted", 1),
        ("ray-two", "promoted", 1),
        ("ray-waits", "rejected", 1),
    ], "".join(story.lines)
    assert story.code == 40 and story.junit.count("<testcase") == 4


@pytest.mark.parametrize("name", ["ray-one", "ray-two"])
def test_a_dead_process_or_node_costs_no_more_than_what_came_after_the_last_checkpoint(story: Story, name: str) -> None:
    import torch

    assert story.steps[name] > 1
    assert story.began(name) == ({1, story.steps[name] + 1} if story.steps[name] < STEPS else {1})
    # The same training, and nobody disturbed it.
    assert torch.equal(story.prompt(name), story.prompt("ray-seeds"))


def test_a_worker_loads_a_base_once(story: Story) -> None:
    def counts(lines: list[str]) -> set[tuple[int, int]]:
        matches = [re.search(r"worker .*: items (\d+), bases loaded (\d+)", line) for line in lines]
        return {(int(match[1]), int(match[2])) for match in matches if match}

    assert all(loaded <= 1 for _, loaded in counts(story.lines)) and counts(story.lines)
    # By then one node with one core is left, and both points are its.
    assert counts(story.sweep_lines) == {(2, 1)}


def test_prefect_and_mlflow_show_what_became_of_the_killed_runs(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    assert story.flow_runs["ray-one"] == story.flow_runs["ray-two"] == ["Crashed", "Promoted"]
    assert story.flow_runs["ray-waits"] == ["Rejected"]
    assert "ray worker: " in story.prefect_records and "a secret" not in story.prefect_records
    monkeypatch.setenv("SOFTPROMPT_HOME", str(story.home))
    from softprompt_core.store.connection import Store

    client = Store.connect().client
    for name in ("ray-one", "ray-two"):
        experiment = client.get_experiment_by_name(f"softprompt/{name}")
        assert sorted(run.info.status for run in client.search_runs([experiment.experiment_id])) == ["FINISHED", "KILLED"]


def test_seeds_need_no_other_worker_than_the_one_that_has_the_lifecycle(story: Story) -> None:
    import torch

    assert story.seeds_code == 0
    assert [result["outcome"] for result in story.seeds_results] == ["promoted"]
    assert not torch.equal(story.prompt("ray-seeds", 0), story.prompt("ray-seeds", 1))


def test_points_of_a_sweep_are_trained_by_workers(story: Story) -> None:
    assert story.sweep_code == 0, story.swept
    labels = {match[1] for line in story.sweep_lines if (match := re.search(r"(ray-sweep, .*): on worker", line))}
    assert labels == {"ray-sweep, prompt.length=1", "ray-sweep, prompt.length=2"}
    assert [(point["settings"], len(point["seeds"])) for point in story.swept["points"]] == [
        ({"prompt.length": 1}, 1),
        ({"prompt.length": 2}, 1),
    ]
    assert len(list(story.home.glob("work/ray-sweep/*/prompt-0.safetensors"))) == 2
