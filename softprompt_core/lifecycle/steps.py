"""The steps of a lifecycle. ``run_task`` calls them in order; Prefect's flow gives it the same functions wrapped as tasks.

Between steps stand small values and files in the workspace, never models. Modules that need torch are imported when a step runs:
a lifecycle with nothing to do is spared those seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from softprompt_core.errors import InvalidInput, Outcome
from softprompt_core.evaluation.results import EvaluationResults
from softprompt_core.gates import Assessment
from softprompt_core.lifecycle.assess import assess
from softprompt_core.lifecycle.champion import Champion
from softprompt_core.lifecycle.decide import decide
from softprompt_core.lifecycle.register import register
from softprompt_core.lifecycle.resolve import ResolvedTask, resolve
from softprompt_core.lifecycle.tracking.curves import live_curves, log_training
from softprompt_core.lifecycle.tracking.descriptions import notes_on
from softprompt_core.lifecycle.tracking.flow_run import FlowRun
from softprompt_core.lifecycle.tracking.gate_report import Origin, log_gate_report
from softprompt_core.lifecycle.tracking.run import log_evaluation, open_run
from softprompt_core.lifecycle.tracking.tracked_run import TrackedRun
from softprompt_core.lifecycle.trained import TrainedSeed
from softprompt_core.spec import PromptSpec
from softprompt_core.store import versions
from softprompt_core.store.connection import Store
from softprompt_core.store.versions import Version

if TYPE_CHECKING:
    from softprompt_core.lifecycle.train import OnProgress


def check_task(task: ResolvedTask, champion: Champion | None) -> None:
    """Whether a training can start; asked before anything is written to MLflow.

    Raises:
        InvalidInput: as ``lifecycle.train.check``; or it starts from the champion, whose files are gone or damaged.
    """
    from softprompt_core.lifecycle.train import check

    if task.spec.prompt.init == "champion" and champion is not None and champion.problem is not None:
        raise InvalidInput(
            f"the champion to start from cannot be used: {champion.problem}",
            where="prompt.init: champion",
            do=f"restore its files, roll back (`softprompt registry rollback {task.name}`), or start from `labels`",
        )

    check(task, prompt_file(champion))


def train_task(
    task: ResolvedTask,
    store: Store,
    run: TrackedRun | None,
    champion: Champion | None,
    *,
    seeds: Sequence[int] | None = None,
    on_progress: OnProgress | None = None,
) -> list[TrainedSeed]:
    """Train all seeds, or some; their curves grow in ``run`` meanwhile. Raises as ``lifecycle.train.train``."""
    from softprompt_core.lifecycle.train import train

    mine = {} if run is None else {seed: run.seeds[seed] for seed in seeds or task.seeds}
    with live_curves(task, store, mine) if mine else nullcontext() as on_check:
        return train(task, champion=prompt_file(champion), seeds=seeds, on_progress=on_progress, on_check=on_check)


def evaluate_candidate(task: ResolvedTask, candidate: TrainedSeed, champion: Champion | None) -> EvaluationResults:
    """Score candidate, champion and baselines. Raises as ``lifecycle.evaluate.evaluate``."""
    from softprompt_core.lifecycle.evaluate import evaluate

    return evaluate(task, candidate.prompt, champion)


def log_assessment(task: ResolvedTask, store: Store, assessment: Assessment, origin: Origin) -> None:
    """All that a reviewer reads, before any alias moves: a champion whose evidence is missing could not be explained."""

    def log() -> None:
        log_evaluation(task, store, origin.run.id, assessment)
        log_gate_report(task, store, assessment, origin, notes_on(assessment))

    store.retry(log)


def register_candidate(
    task: ResolvedTask, store: Store, run: TrackedRun, candidate: TrainedSeed, flow_run: FlowRun | None
) -> Version:
    """Register the candidate as a version. Raises as ``lifecycle.register.register``."""
    tries = 0

    def register_once() -> Version:
        nonlocal tries
        tries += 1
        # The answer to an earlier try may be what was lost: a second version of one run would be its twin.
        found = [v for v in versions.undecided(store, task.name) if v.run_id == run.id] if tries > 1 else []
        return found[0] if found else register(task, store, run.id, candidate.prompt, flow_run)

    return store.retry(register_once)


def decide_version(task: ResolvedTask, store: Store, version: Version, assessment: Assessment) -> Outcome:
    """Write the decision down and move the aliases. Raises as ``lifecycle.decide.decide``."""
    return store.retry(lambda: decide(task.spec, store, version, assessment.decision, assessment.compared_with))


@dataclass(frozen=True)
class Steps:
    """The functions that ``run_task`` calls, in order."""

    resolve: Callable[[PromptSpec], ResolvedTask] = resolve
    check: Callable[[ResolvedTask, Champion | None], None] = check_task
    open_run: Callable[[ResolvedTask, Store, FlowRun | None], TrackedRun] = open_run
    train: Callable[[ResolvedTask, Store, TrackedRun | None, Champion | None], list[TrainedSeed]] = train_task
    log_training: Callable[[ResolvedTask, Store, TrackedRun, Sequence[TrainedSeed], TrainedSeed], None] = log_training
    evaluate: Callable[[ResolvedTask, TrainedSeed, Champion | None], EvaluationResults] = evaluate_candidate
    assess: Callable[[ResolvedTask, EvaluationResults, Store, Champion | None], Assessment] = assess
    register: Callable[[ResolvedTask, Store, TrackedRun, TrainedSeed, FlowRun | None], Version] = register_candidate
    log_assessment: Callable[[ResolvedTask, Store, Assessment, Origin], None] = log_assessment
    decide: Callable[[ResolvedTask, Store, Version, Assessment], Outcome] = decide_version


def prompt_file(champion: Champion | None) -> Path | None:
    """The soft prompt of a champion whose files are there."""
    from softprompt_core.soft_prompt import FILE_NAME

    return champion.folder / FILE_NAME if champion is not None and champion.problem is None else None
