"""Play one scenario, and say what came of it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from softprompt_core import registry
from softprompt_core.registry import Stores
from tests.faults.place import Command, Ended, Place, Worker, can_mount, fill, small_disk, until
from tests.faults.scenarios import Scenario
from tests.toy_task import write_toy

DISK_MB = 12
_PROCESSES = ("kill command", "worker")  # what is killed then is not to be started again
_WAIT_S = 20
_VARYING = {
    r"[0-9a-f]{32}": "`id`",
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC": "…",
    r"127\.0\.0\.1:\d+": "…",
    r"[\w.-]+, process \d+,": "its process",
}


@dataclass(frozen=True)
class Played:
    """What a scenario came to. ``doctor``: findings other than ok, between the disturbed run and the next."""

    scenario: Scenario
    first: Ended
    doctor: list[str]
    visible_between: dict[str, int]
    again: Ended
    visible_after: dict[str, int]
    half_made: int
    ledger: list[tuple[str, str, int | None]]
    curve: list[int]
    trained_again: bool
    statuses: list[str]
    doctor_after: list[str]
    folder: Path

    def shortened(self, text: str) -> str:
        """Without what differs from one play to the next: ids, times, places, numbers of processes."""
        text = text.partition("\n")[0].replace(str(self.folder), "…")
        for pattern, instead in _VARYING.items():
            text = re.sub(pattern, instead, text)
        return text


def check(played: Played) -> None:
    """What holds after every fault."""
    scenario = played.scenario
    if scenario.outcome is None:
        assert played.first.code == -9
    elif scenario.strike == "worker":
        assert played.first.code == 124
    else:
        assert played.first.result["outcome"] == scenario.outcome, played.first
    assert "Traceback" not in played.first.err, played.first.err
    said = "\n".join(played.doctor)
    for words in scenario.doctor:
        assert words in said, said
    if not scenario.doctor:
        assert not played.doctor, said
    promoted = scenario.outcome == "promoted" or scenario.champion_between
    assert ("champion" in played.visible_between) == promoted and "challenger" not in played.visible_between
    assert played.again.result["outcome"] == scenario.next_outcome, played.again
    # One champion, the ledger knows it, and nothing half made or open is left.
    assert played.visible_after["champion"] == played.again.result["version"]
    assert played.half_made == 0 and all(status != "intent" for _, status, _ in played.ledger)
    assert [entry for entry in played.ledger if entry[1] == "completed"][-1][::2] == ("promote", played.again.result["version"])
    assert len(played.curve) == len(set(played.curve)), "a step was delivered twice"
    assert not played.trained_again
    assert "RUNNING" not in played.statuses
    assert played.doctor_after == [], played.doctor_after


def skipped(scenario: Scenario, place: Place) -> str | None:
    """Why a scenario cannot be played here; None if it can."""
    if scenario.strike == "postgres" and place.postgres is None:
        return "PostgreSQL's server is not installed"
    if scenario.strike == "disk" and not can_mount():
        return "a small disk cannot be mounted here (needs root)"
    return None


def play(scenario: Scenario, place: Place, base: Path, number: int) -> Played:
    folder = place.folder / scenario.key
    with ExitStack() as stack:
        home = folder / "home"
        if scenario.strike == "disk":
            stack.enter_context(small_disk(home, DISK_MB))
        # A seed of its own: Prefect's cache knows trainings by what they were made from, whatever the task's name.
        training = {"max_steps": 60, "eval_every": 10, "batch_size": 16, "patience": 20, "seed": number}
        if scenario.strike == "worker":  # not to be held: long enough for the checkpoint after five seconds
            training |= {"max_steps": 1500, "eval_every": 500}
        gates = [{"metric": "accuracy", "at_least": 0.0}]
        spec = str(write_toy(folder, base, name=scenario.key, training=training, gates=gates))
        environment = {
            "SOFTPROMPT_HOME": str(home),
            "SOFTPROMPT_SERVER_WAIT_S": str(scenario.wait_s),
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            "HF_HUB_OFFLINE": "1",
        }
        if scenario.strike != "disk":  # there MLflow's database and files are on the small disk too
            environment["MLFLOW_TRACKING_URI"] = place.mlflow.url
        stores = Stores(environment.get("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}"), None, None, home)

        def command(name: str, *arguments: str, moment: str | None = None, here: Path | None = None) -> Command:
            return Command(place.commands, folder / name, environment, *arguments, moment=moment, here=here)

        if scenario.strike == "worker":
            first, room = _killed_worker(scenario, place, folder, environment, command), None
        else:
            first = command("first", "run", spec, "--json", moment=scenario.moment).until_held()
            room = _strike(scenario, place, first, home)
        if scenario.strike not in _PROCESSES:
            first.go()
        if scenario.back:
            _until_noticed(scenario, home)
            place.service(scenario.strike).start()
        ended = first.ended()
        if room is not None:
            between = _doctor(command("doctor", "doctor", "--json"))
            room.unlink()
        elif scenario.strike not in _PROCESSES and not scenario.back:
            place.service(scenario.strike).start()
        client = registry.connect(stores)
        if room is None:
            between = _doctor(command("doctor", "doctor", "--json"))
        visible_between = registry.aliases(client, scenario.key)
        steps_before = _steps(first.folder / "err")
        again = command("again", "run", spec, "--json")
        said = again.ended()
        runs = client.search_runs([client.get_experiment_by_name(f"softprompt/{scenario.key}").experiment_id])
        if scenario.strike in _PROCESSES:
            # The lifecycle is whole by itself; only Prefect still shows the dead flow run.
            command("repair", "doctor", "--repair", "--json").ended()
        after = _doctor(command("doctor after", "doctor", "--json"))
        first_run = min(runs, key=lambda run: run.info.start_time)
        return Played(
            scenario=scenario,
            first=ended,
            doctor=between,
            visible_between=visible_between,
            again=said,
            visible_after=registry.aliases(client, scenario.key),
            half_made=len(registry.half_made(client, scenario.key)),
            ledger=[(e.action, e.status, e.candidate) for e in registry.history(client, scenario.key)],
            curve=[one.step for one in client.get_metric_history(first_run.info.run_id, "train/learning_rate")],
            trained_again=steps_before >= 60 and _steps(again.folder / "err") > 0,
            statuses=sorted(run.info.status for run in runs),
            # The small disk stays small.
            doctor_after=[line for line in after if not (scenario.strike == "disk" and line.startswith("disk:"))],
            folder=folder,
        )


def _killed_worker(
    scenario: Scenario, place: Place, folder: Path, environment: Mapping[str, str], command: Callable[..., Command]
) -> Command:
    """A worker killed in a training, while a command waits for the run."""
    (folder / "deployments" / "environments").mkdir(parents=True)
    settings = {"work_pool": {"name": "faults"}, "specs": ["."], "env": environment}
    (folder / "deployments" / "environments" / "faults.yaml").write_text(yaml.safe_dump(settings))
    deployed = command("deploy", "deploy", "-e", "faults", here=folder).ended()
    assert deployed.code == 0, deployed
    worker = Worker(folder, {**environment, **place.shared}, "faults")
    try:
        spec = str(folder / f"{scenario.key}.yaml")
        waiting = command("first", "run", spec, "--deployment", "--wait", "--timeout", str(_WAIT_S), "--json")
        home = Path(environment["SOFTPROMPT_HOME"])
        until(lambda: list(home.glob("work/*/*/checkpoint-*.safetensors")), "a checkpoint")
    finally:
        worker.kill()
    return waiting


def _strike(scenario: Scenario, place: Place, command: Command, home: Path) -> Path | None:
    if scenario.strike == "kill command":
        command.kill()
    elif scenario.strike == "disk":
        return fill(home)
    else:
        place.service(scenario.strike).kill()
    return None


def _until_noticed(scenario: Scenario, home: Path) -> None:
    """Back too early, nobody would have noticed the fault."""
    if scenario.strike == "prefect" or scenario.moment != "training":
        time.sleep(2.0)
        return
    notes = home / "spool"
    until(lambda: any(json.loads(note.read_text()).get("why") for note in notes.glob("*.json")), "a failed delivery")


def _doctor(command: Command) -> list[str]:
    found: list[Mapping[str, Any]] = json.loads(command.ended().out)
    return [f"{one['what']}: {one['found']}" for one in found if one["status"] != "ok"]


def _steps(err: Path) -> int:
    """The last step that a command printed about its training; 0 if it trained nothing."""
    lines = [line for line in err.read_text(errors="replace").splitlines() if ": step " in line]
    return int(lines[-1].partition(": step ")[2].partition("/")[0]) if lines else 0
