"""Run one scenario, and say what came of it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from softprompt_core.store import metric_buffer, registration, versions
from softprompt_core.store.addresses import Addresses
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger import entries
from tests.faults.commands import HeldCommand, Worker
from tests.faults.disk import can_mount, fill, small_disk
from tests.faults.moments import HELD_STEP
from tests.faults.scenarios import Scenario
from tests.faults.servers import Servers
from tests.services.commands import Command, Ended, until
from tests.services.postgres import Postgres
from tests.toy_task import write_toy

DISK_MB = 12
TRAINING = {"max_steps": 2 * HELD_STEP, "eval_every": 4, "batch_size": 16, "patience": 20}
# Nobody holds a worker, so it is killed when a first checkpoint is there; the training must last longer than that takes.
TRAINING_ON_WORKER = {**TRAINING, "max_steps": 600, "eval_every": 100}
_WORKER_TIMEOUT_S = 20
_VARYING = {
    r"[0-9a-f]{32}": "`id`",
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC": "…",
    r"127\.0\.0\.1:\d+": "…",
    r"[\w.-]+, process \d+,": "its process",
}


@dataclass(frozen=True)
class FaultRun:
    """What came of a scenario.

    Attributes:
        first: the disturbed command.
        doctor: findings other than ok, between the disturbed command and the next.
        aliases_between: alias → version, then.
        again: the same command, once everything is back.
        ledger: action, status and candidate of its entries.
        curve: the steps of the training's curve in MLflow.
        trained_again: whether steps of a training that had ended were repeated.
        statuses: of all MLflow runs of the task.
    """

    scenario: Scenario
    first: Ended
    doctor: list[str]
    aliases_between: dict[str, int]
    again: Ended
    aliases_after: dict[str, int]
    incomplete_versions: int
    ledger: list[tuple[str, str, int | None]]
    curve: list[int]
    trained_again: bool
    statuses: list[str]
    doctor_after: list[str]
    folder: Path

    def shortened(self, text: str) -> str:
        """The first line of a text, without what differs from run to run: ids, times, folders, numbers of processes."""
        text = text.partition("\n")[0].replace(str(self.folder), "…")
        for pattern, replacement in _VARYING.items():
            text = re.sub(pattern, replacement, text)
        return text


def check(run: FaultRun) -> None:
    """What holds after every fault."""
    scenario = run.scenario
    if scenario.outcome is None:
        assert run.first.code == -9
    elif scenario.kind == "worker killed":
        assert run.first.code == 124
    else:
        assert run.first.result["outcome"] == scenario.outcome, run.first
    assert "Traceback" not in run.first.err, run.first.err
    findings = "\n".join(run.doctor)
    for words in scenario.doctor:
        assert words in findings, findings
    if not scenario.doctor:
        assert not run.doctor, findings
    promoted = scenario.outcome == "promoted" or scenario.champion_between
    assert ("champion" in run.aliases_between) == promoted and "challenger" not in run.aliases_between
    assert run.again.result["outcome"] == scenario.next_outcome, run.again
    # One champion, the ledger knows it, and nothing incomplete or open is left.
    assert run.aliases_after["champion"] == run.again.result["version"]
    assert run.incomplete_versions == 0 and all(status != "intent" for _, status, _ in run.ledger)
    assert [entry for entry in run.ledger if entry[1] == "completed"][-1][::2] == ("promote", run.again.result["version"])
    assert run.curve and len(run.curve) == len(set(run.curve)), f"a step was delivered twice, or none: {run.curve}"
    assert not run.trained_again
    assert "RUNNING" not in run.statuses
    assert run.doctor_after == [], run.doctor_after


def cannot_run(scenario: Scenario, servers: Servers) -> str | None:
    """Why a scenario cannot be run here; None if it can."""
    if scenario.server == "postgres" and servers.postgres is None:
        return Postgres.missing()
    if scenario.kind == "disk full" and not can_mount():
        return "a small disk cannot be mounted here (needs root)"
    return None


def run_scenario(scenario: Scenario, servers: Servers, base: Path, blank_database: Path) -> FaultRun:
    with ExitStack() as stack:
        trial = _Trial(scenario, servers, base)
        if scenario.kind == "disk full":
            stack.enter_context(small_disk(trial.home, DISK_MB))
            shutil.copy(blank_database, trial.home / "mlflow.db")
        return trial.run()


class _Trial:
    """One scenario with its folder, spec and environment."""

    def __init__(self, scenario: Scenario, servers: Servers, base: Path) -> None:
        self.scenario, self.servers = scenario, servers
        self.folder = servers.folder / scenario.key
        self.home = self.folder / "home"
        self.training = TRAINING_ON_WORKER if scenario.kind == "worker killed" else TRAINING
        gates = [{"metric": "accuracy", "at_least": 0.0}]
        self.spec = str(write_toy(self.folder, base, name=scenario.key, training=self.training, gates=gates))
        self.environment = {
            "SOFTPROMPT_HOME": str(self.home),
            "SOFTPROMPT_SERVER_WAIT_S": str(scenario.wait_s),
            "SOFTPROMPT_CHECKPOINT_S": "0",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        }
        if scenario.kind != "disk full":  # there MLflow's database and files are on the small disk too
            self.environment["MLFLOW_TRACKING_URI"] = servers.mlflow_url
        tracking_uri = self.environment.get("MLFLOW_TRACKING_URI", f"sqlite:///{self.home / 'mlflow.db'}")
        self.addresses = Addresses(tracking_uri, None, None, self.home)

    def run(self) -> FaultRun:
        scenario, name = self.scenario, self.scenario.key
        first, repair = (self._on_worker if scenario.kind == "worker killed" else self._held)()
        if scenario.back:
            repair()
        ended = first.ended()
        if scenario.kind == "disk full":
            doctor = self._doctor("doctor")  # while it is full
            repair()
        else:
            if not scenario.back:
                repair()
            doctor = self._doctor("doctor")
        store = Store.connect(self.addresses)
        aliases_between = versions.aliases(store, name)
        again = self._command("again", "run", self.spec, "--json").ended()
        experiment = store.client.get_experiment_by_name(f"softprompt/{name}")
        runs = store.client.search_runs([experiment.experiment_id])
        if scenario.kind in ("command killed", "worker killed"):
            # The lifecycle is whole by itself; only Prefect still shows the dead flow run.
            self._command("repair", "doctor", "--repair", "--json").ended()
        doctor_after = self._doctor("doctor after")
        first_run = min(runs, key=lambda run: run.info.start_time)
        curve = store.client.get_metric_history(first_run.info.run_id, "train/learning_rate")
        return FaultRun(
            scenario=scenario,
            first=ended,
            doctor=doctor,
            aliases_between=aliases_between,
            again=again,
            aliases_after=versions.aliases(store, name),
            incomplete_versions=len(registration.incomplete_versions(store, name)),
            ledger=[(entry.action, entry.status, entry.candidate) for entry in entries.history(store, name)],
            curve=[point.step for point in curve],
            trained_again=_last_step(ended.err) >= self.training["max_steps"] and _last_step(again.err) > 0,
            statuses=sorted(run.info.status for run in runs),
            # The small disk stays small.
            doctor_after=[line for line in doctor_after if not (scenario.kind == "disk full" and line.startswith("disk:"))],
            folder=self.folder,
        )

    def _command(self, name: str, *arguments: str, current_folder: Path | None = None) -> Command:
        folder = self.folder / name
        return Command(self.servers.forkserver, folder, self.environment, *arguments, current_folder=current_folder)

    def _doctor(self, name: str) -> list[str]:
        findings: list[Mapping[str, Any]] = json.loads(self._command(name, "doctor", "--json").ended().out)
        return [f"{finding['what']}: {finding['found']}" for finding in findings if finding["status"] != "ok"]

    def _held(self) -> tuple[Command, Callable[[], object]]:
        """A command that is held at the scenario's moment, disturbed there, and goes on; and what undoes the fault."""
        scenario, servers, server = self.scenario, self.servers, self.scenario.server
        arguments = (self.environment, "run", self.spec, "--json")
        command = HeldCommand(servers.forkserver, self.folder / "first", *arguments, moment=scenario.moment)
        if scenario.moment == "training" and scenario.kind != "disk full":
            until(self._delivered, "the metrics so far are in MLflow")  # so that a step could be delivered twice
        if scenario.kind == "command killed":
            command.kill()
            return command, lambda: None
        if scenario.kind == "disk full":
            filler = fill(self.home)
            command.release()
            return command, filler.unlink
        assert server is not None
        logged = servers.mlflow.log.stat().st_size
        (servers.kill if scenario.kind == "server killed" else servers.cut)(server)
        command.release()

        def bring_back() -> None:
            if scenario.back:  # back too early, nobody would have noticed the fault
                until(lambda: self._is_noticed(command, logged), f"notice of the fault: {command.stderr[-3000:]}")
            servers.bring_back(server)

        return command, bring_back

    def _on_worker(self) -> tuple[Command, Callable[[], object]]:
        """A command that waits for a run whose worker is killed in the training."""
        environments = self.folder / "deployments" / "environments"
        environments.mkdir(parents=True)
        environment = {"work_pool": {"name": "faults"}, "specs": ["."], "env": self.environment}
        (environments / "faults.yaml").write_text(yaml.safe_dump(environment))
        deployed = self._command("deploy", "deploy", "-e", "faults", current_folder=self.folder).ended()
        assert deployed.code == 0, deployed
        worker = Worker(self.folder, {**self.environment, **self.servers.environment}, "faults")
        try:
            options = ("--deployment", "--wait", "--timeout", f"{_WORKER_TIMEOUT_S}s", "--json")
            waiting = self._command("first", "run", self.spec, *options)
            until(lambda: list(self.home.glob("work/*/*/checkpoint-*.safetensors")), "a checkpoint")
        finally:
            worker.kill()
        return waiting, lambda: None

    def _delivered(self) -> bool:
        """Whether MLflow has all metrics that were written."""
        buffers = metric_buffer.buffers(self.addresses)
        return bool(buffers) and not any(buffer.pending() for buffer in buffers)

    def _is_noticed(self, command: Command, logged: int) -> bool:
        """Whether a command has met the fault. ``logged``: bytes in the log of MLflow's server before it."""
        if self.scenario.server == "prefect":
            return "a detail is missing in Prefect" in command.stderr
        if self.scenario.moment == "training":
            return any(buffer.failure for buffer in metric_buffer.buffers(self.addresses))
        with self.servers.mlflow.log.open("rb") as log:
            log.seek(logged)
            return b"OperationalError" in log.read()


def _last_step(stderr: str) -> int:
    """The last step that a command printed about its training; 0 if it trained nothing."""
    lines = [line for line in stderr.splitlines() if ": step " in line]
    return int(lines[-1].partition(": step ")[2].partition("/")[0]) if lines else 0
