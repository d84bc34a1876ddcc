"""Whole lifecycles by ``run_task``, with the values that passed between their steps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest

from softprompt_core.errors import Outcome
from softprompt_core.evaluation.results import EvaluationResults
from softprompt_core.gates import Assessment, Decision
from softprompt_core.lifecycle.resolve import ResolvedTask
from softprompt_core.lifecycle.result import LifecycleResult
from softprompt_core.lifecycle.run import run_task
from softprompt_core.lifecycle.steps import Steps
from softprompt_core.lifecycle.trained import TrainedSeed, best_seed


@dataclass(frozen=True)
class Finished:
    """A lifecycle that ended with a decision: its result, and what its last steps returned."""

    result: LifecycleResult
    task: ResolvedTask
    seeds: list[TrainedSeed]
    results: EvaluationResults
    assessment: Assessment
    folder: Path

    @property
    def outcome(self) -> Outcome:
        assert isinstance(self.result.outcome, Outcome)
        return self.result.outcome

    @property
    def decision(self) -> Decision:
        return self.assessment.decision

    @property
    def candidate(self) -> TrainedSeed:
        return best_seed(self.seeds)

    @property
    def version(self) -> int:
        assert self.result.version is not None
        return self.result.version

    @property
    def run_id(self) -> str:
        assert self.result.run_id is not None
        return self.result.run_id

    def accuracy(self, scorer: str) -> float:
        return self.assessment.metrics[scorer]["accuracy"]


def run_lifecycle(spec: Path, *, evidence: bool = True) -> Finished:
    """Run the lifecycle of a spec, whether anything has changed or not.

    Args:
        evidence: without it the reports and figures of the evaluation, which take most of the time, are left out.
    """
    returned: dict[str, Any] = {}

    def kept(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            returned[name] = step(*args)
            return returned[name]

        return call

    steps = Steps() if evidence else replace(Steps(), log_assessment=lambda *_: None)
    steps = Steps(**{field.name: kept(field.name, getattr(steps, field.name)) for field in fields(Steps)})
    result = run_task(spec, force=True, steps=steps)
    assert "assess" in returned, result.reason
    return Finished(result, returned["resolve"], returned["train"], returned["evaluate"], returned["assess"], spec.parent)


@contextmanager
def at_home(home: Path):
    """This process works with the store in ``home``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTPROMPT_HOME", str(home))
        yield
