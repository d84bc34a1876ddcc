"""What one task costs the record: registers tasks whose prompts are made, not trained, and times every step.

    python -m benchmarks.registrations SPECS... [--evidence]

The stores are those of the environment, as for every command. The first task is trained and scored for two steps; the others take
its training and its scores, and a copy of its prompt in their own name. Everything else is what a lifecycle does, by the same
calls. ``--evidence`` also writes the reports, tables and figures that a lifecycle writes. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from softprompt_core import registry
from softprompt_core.soft_prompt import SoftPrompt
from softprompt_core.spec import load_spec
from softprompt_core.stages import curves, gate_report, record, reporting
from softprompt_core.stages.evaluation import evaluate
from softprompt_core.stages.evidence import Evidence
from softprompt_core.stages.inputs import Inputs, gather
from softprompt_core.stages.monitoring import log_profile
from softprompt_core.stages.promotion import act, judge
from softprompt_core.stages.registration import register
from softprompt_core.stages.trained import Trained
from softprompt_core.stages.training import data_report, train_seeds


class Laps:
    """Step → seconds, one for each task; CPU seconds of all its steps; and how many requests went to a server."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.cpu: list[float] = []
        self.requests = 0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds.setdefault(name, []).append(time.perf_counter() - began)

    @contextmanager
    def counting(self) -> Iterator[None]:
        import requests

        send = requests.Session.send

        def counted(*given: object, **more: object) -> object:
            self.requests += 1
            return send(*given, **more)  # type: ignore[arg-type]

        requests.Session.send = counted  # type: ignore[assignment,method-assign]
        try:
            yield
        finally:
            requests.Session.send = send  # type: ignore[method-assign]


def register_all(specs: list[Path], *, evidence: bool) -> Laps:
    client = record.client()
    first = load_spec(specs[0])
    inputs = gather(first)
    (trained,) = train_seeds(first, inputs)
    scores = Evidence.load(evaluate(first, inputs, Path(trained.prompt), None))
    prompt, laps = SoftPrompt.load(Path(trained.prompt)), Laps()
    with laps.counting():
        for path in specs:
            began = time.process_time()
            with laps.step("data and fingerprint"):
                spec = load_spec(path)
                inputs = gather(spec)
            own = _as_if_trained(trained, prompt, spec.name, inputs)
            decision = judge(spec, scores)
            with laps.step("run"):
                experiment, run_id = reporting.open_run(client, spec, inputs, None)
            if evidence:
                with laps.step("evidence before"):
                    reporting.log_data(client, run_id, data_report(spec, inputs))
                    reporting.log_rows(client, run_id, inputs)
                    log_profile(client, run_id, spec, inputs)
                    curves.log_training(client, spec, run_id, own)
            with laps.step("version"):
                words = reporting.describe_version(spec, inputs, scores, decision, experiment, run_id, changes=[], prefect=None)
                version = register(spec, inputs, client, run_id, Path(own.prompt), words).version
            if evidence:
                with laps.step("evidence after"):
                    reporting.log_evaluation(client, run_id, inputs, scores, decision)
                    where = dict(experiment=experiment, run_id=run_id)
                    gate_report.log_gate_report(
                        client, spec, inputs, scores, decision, own, version=version, champion=None, prefect_url=None, **where
                    )
            with laps.step("decision"):
                act(client, spec, version, None, decision, run_id, by="benchmarks")
                registry.finish(client, run_id, decision.outcome, decision.verdict)
            laps.cpu.append(time.process_time() - began)
    return laps


def _as_if_trained(trained: Trained, prompt: SoftPrompt, name: str, inputs: Inputs) -> Trained:
    place = inputs.workspace.prompt(trained.seed)
    replace(prompt, task=name).save(place)
    return replace(trained, prompt=str(place))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.registrations", description=__doc__)
    parser.add_argument("specs", nargs="+", type=Path)
    parser.add_argument("--evidence", action="store_true")
    options = parser.parse_args()
    laps = register_all(options.specs, evidence=options.evidence)
    print(json.dumps({"seconds": laps.seconds, "cpu": laps.cpu, "requests": laps.requests}))


if __name__ == "__main__":
    main()
