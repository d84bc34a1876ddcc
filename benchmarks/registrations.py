"""What one task costs the store: registers tasks whose prompts are made, not trained, and times every step.

    python -m benchmarks.registrations SPECS... [--evidence]

The stores are those of the environment, as for every command. The first task is trained and scored for two steps; the others take
its training and its scores, and a copy of its prompt in their own name. Everything else is ``run_task``. ``--evidence`` also
writes the reports, tables and figures that a lifecycle writes. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec, TypeVar

from softprompt_core.evaluation.results import EvaluationResults
from softprompt_core.lifecycle.evaluate import evaluate
from softprompt_core.lifecycle.register import lineage
from softprompt_core.lifecycle.resolve import ResolvedTask, resolve
from softprompt_core.lifecycle.run import run_task
from softprompt_core.lifecycle.steps import Steps, decide_version, log_assessment, register_candidate
from softprompt_core.lifecycle.tracking.curves import log_training
from softprompt_core.lifecycle.tracking.flow_run import FlowRun
from softprompt_core.lifecycle.tracking.run import log_settings, open_run
from softprompt_core.lifecycle.tracking.tracked_run import TrackedRun
from softprompt_core.lifecycle.train import train
from softprompt_core.lifecycle.trained import TrainedSeed
from softprompt_core.soft_prompt import SoftPrompt
from softprompt_core.spec import load_spec
from softprompt_core.store import runs
from softprompt_core.store.connection import Store

P = ParamSpec("P")
R = TypeVar("R")


class Laps:
    """Step → seconds, one for each task; CPU seconds of all its steps; and how many requests went to a server."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.cpu: list[float] = []
        self.requests = 0

    def timed(self, name: str, step: Callable[P, R]) -> Callable[P, R]:
        """The step, whose seconds are noted."""

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            began = time.perf_counter()
            try:
                return step(*args, **kwargs)
            finally:
                self.seconds.setdefault(name, []).append(time.perf_counter() - began)

        return call

    @contextmanager
    def task(self) -> Iterator[None]:
        """One task; what no step accounts for is its ``rest``."""
        began, cpu, before = time.perf_counter(), time.process_time(), self._sum()
        yield
        self.seconds.setdefault("rest", []).append(time.perf_counter() - began - (self._sum() - before))
        self.cpu.append(time.process_time() - cpu)

    def _sum(self) -> float:
        return sum(sum(seconds) for seconds in self.seconds.values())

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the requests that are sent meanwhile."""
        import requests

        send = requests.Session.send

        def counted(*args: object, **kwargs: object) -> object:
            self.requests += 1
            return send(*args, **kwargs)  # type: ignore[arg-type]

        requests.Session.send = counted  # type: ignore[assignment,method-assign]
        try:
            yield
        finally:
            requests.Session.send = send  # type: ignore[method-assign]


def register_all(specs: list[Path], *, evidence: bool) -> Laps:
    """Bring all tasks to a first champion. Raises RuntimeError where one is not promoted."""
    store, laps = Store.connect(), Laps()
    first = resolve(load_spec(specs[0]))
    (trained,) = train(first)
    steps = _steps(laps, trained, evaluate(first, trained.prompt), evidence)
    with laps.counting():
        for spec in specs:
            with laps.task():
                result = run_task(spec, store=store, steps=steps)
            if result.exit_code != 0:
                raise RuntimeError(f"{spec}: {result.label}: {result.reason}")
    return laps


def _steps(laps: Laps, trained: TrainedSeed, results: EvaluationResults, evidence: bool) -> Steps:
    """The steps of a lifecycle, timed; training and evaluation give what is known already."""
    prompt = SoftPrompt.load(trained.prompt)

    def copy_prompt(task: ResolvedTask, *_: object) -> list[TrainedSeed]:
        file = task.workspace.prompt(trained.seed)
        replace(prompt, task=task.name).save(file)
        return [replace(trained, prompt=file)]

    def nothing(*_: object) -> None:
        pass

    return Steps(
        resolve=laps.timed("data and fingerprint", resolve),
        check=nothing,
        open_run=laps.timed("run", open_run if evidence else _open_bare_run),
        train=copy_prompt,
        log_training=laps.timed("evidence of the training", log_training) if evidence else nothing,
        evaluate=lambda *_: results,
        register=laps.timed("version", register_candidate),
        log_assessment=laps.timed("evidence of the evaluation", log_assessment) if evidence else nothing,
        decide=laps.timed("decision", decide_version),
    )


def _open_bare_run(task: ResolvedTask, store: Store, flow_run: FlowRun | None) -> TrackedRun:
    """The run of a lifecycle with its tags and parameters alone."""
    experiment = runs.experiment_id(store, task.name)
    run_id = runs.start_run(store, experiment, task.name, lineage(task, flow_run=flow_run))
    log_settings(store, run_id, task.spec)
    return TrackedRun(run_id, experiment, store.run_url(experiment, run_id), {task.seeds[0]: run_id})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.registrations", description=__doc__)
    parser.add_argument("specs", nargs="+", type=Path)
    parser.add_argument("--evidence", action="store_true")
    options = parser.parse_args()
    laps = register_all(options.specs, evidence=options.evidence)
    print(json.dumps({"seconds": laps.seconds, "cpu": laps.cpu, "requests": laps.requests}))


if __name__ == "__main__":
    main()
