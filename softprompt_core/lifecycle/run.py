"""``run_task``: the whole lifecycle of one task, from its spec to a decision.

    resolve → train → evaluate → assess → register → decide

It always ends in exactly one outcome. Nothing is written to MLflow before data, base and store are known to be good.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from softprompt_core.errors import Outcome, SoftpromptError
from softprompt_core.gates import Assessment
from softprompt_core.lifecycle.adopt import Begun, adopt, adoptable, left_undecided, settle_what_broke_off, withdraw_others
from softprompt_core.lifecycle.champion import Champion, fetch_champion
from softprompt_core.lifecycle.resolve import ResolvedTask, resolve
from softprompt_core.lifecycle.result import LifecycleResult
from softprompt_core.lifecycle.steps import Steps
from softprompt_core.lifecycle.tracking.descriptions import describe_run, describe_version, version_link
from softprompt_core.lifecycle.tracking.flow_run import FlowRun
from softprompt_core.lifecycle.tracking.gate_report import Origin
from softprompt_core.lifecycle.tracking.run import close_run
from softprompt_core.lifecycle.tracking.tracked_run import TrackedRun
from softprompt_core.lifecycle.trained import best_seed
from softprompt_core.masking import print_traceback
from softprompt_core.spec import PromptSpec, load_spec, parse_spec
from softprompt_core.store import flushing, runs, tags, versions
from softprompt_core.store.addresses import Addresses
from softprompt_core.store.connection import Store
from softprompt_core.store.failures import in_brief, unavailable
from softprompt_core.store.ledger.reconcile import refresh_descriptions, task_state
from softprompt_core.store.ledger.recording import with_current_champion
from softprompt_core.store.ledger.standing import disagrees, write_standing
from softprompt_core.store.versions import Version

T = TypeVar("T")


def run_task(
    spec: PromptSpec | Mapping[str, Any] | str | Path,
    *,
    store: Store | None = None,
    force: bool = False,
    dry_run: bool = False,
    steps: Steps | None = None,
    flow_run: FlowRun | None = None,
) -> LifecycleResult:
    """Bring one task up to date: train, evaluate, register, and let the gates decide. Raises nothing: every error is an outcome.

    Args:
        spec: the task, its spec as plain data, or the path of its YAML file.
        store: the record; that of the settings by default.
        force: run even if nothing has changed since the last decided version.
        dry_run: write nothing to MLflow, and end in the outcome that it would have been.
        steps: the functions to call, where a caller wraps them.
        flow_run: the Prefect flow run that this belongs to, for the record.
    """
    began = time.monotonic()
    steps, name = steps or Steps(), task_name(spec)
    task: ResolvedTask | None = None
    try:
        spec = read_spec(spec)
        name = spec.name
        store = store or Store.connect()
        _settle(name, store, dry_run=dry_run)
        task = steps.resolve(spec)
        result = None if force else find_unchanged(task, store)
        if result is None:
            result = (_dry_run if dry_run else _run)(task, store, steps, flow_run)
    except Exception as error:
        outcome, reason = outcome_of(error, store.addresses if store else None)
        result = LifecycleResult(task=name, outcome=outcome, reason=reason)
    finally:
        if task is not None:
            task.workspace.clear()
    url = flow_run.url if flow_run else None
    return result.model_copy(update=dict(seconds=round(time.monotonic() - began, 1), prefect_url=url, dry_run=dry_run))


def task_name(spec: PromptSpec | Mapping[str, Any] | str | Path) -> str:
    """What to call a task whose spec may be wrong."""
    if isinstance(spec, PromptSpec):
        return spec.name
    return str(spec.get("name", "?")) if isinstance(spec, Mapping) else Path(spec).stem


def read_spec(spec: PromptSpec | Mapping[str, Any] | str | Path) -> PromptSpec:
    """The spec in whichever form it was given. Raises InvalidInput if it is wrong."""
    if isinstance(spec, PromptSpec):
        return spec
    return parse_spec(dict(spec)) if isinstance(spec, Mapping) else load_spec(spec)


def run_if_unchanged(spec: PromptSpec, *, store: Store | None = None, dry_run: bool = False) -> LifecycleResult | None:
    """What ``run_task`` ends in where there is nothing to do; None where it has to look at the task.

    Needs neither torch nor, for a record in MLflow's own SQLite file, MLflow. Raises nothing: ``run_task`` meets the same errors.
    """
    began = time.monotonic()
    try:
        store = store or Store.connect()
        _settle(spec.name, store, dry_run=dry_run)
        result = find_unchanged(resolve(spec), store, tell=False)
    except Exception:
        return None
    return result and result.model_copy(update=dict(seconds=round(time.monotonic() - began, 1), dry_run=dry_run))


def find_unchanged(task: ResolvedTask, store: Store, *, tell: bool = True) -> LifecycleResult | None:
    """The result of a task that has nothing to do, which carries what was decided about the version that stands; None for a task
    that a lifecycle must look at.

    Args:
        tell: print what has changed since that version.
    """
    last = versions.last_decided(store, task.name)
    if last is None or last.decision is None:  # a tag that somebody has changed is no decision
        return None
    if last.tags.get(tags.FINGERPRINT) != task.fingerprints.all:
        if tell:
            print(f"{task.name}: {_what_changed(task, last)} since version {last.version}", file=sys.stderr, flush=True)
        return None
    decided = ", ".join(filter(None, (last.decision.value.replace("_", " "), last.tags.get(tags.WITHDRAWN))))
    return LifecycleResult(
        task=task.name,
        outcome=Outcome.UNCHANGED,
        stands_for=last.decision,
        reason=f"data, spec, base model and library are those of version {last.version} ({decided}); nothing was trained",
        version=last.version,
        run_id=last.run_id,
        run_url=store.version_url(task.name, last.version),
    )


def outcome_of(error: Exception, addresses: Addresses | None = None) -> tuple[Outcome, str]:
    """The outcome that an error leads to, and its message. ``addresses``: of the store; by default those of the settings."""
    known = error if isinstance(error, SoftpromptError) else unavailable(error, addresses or Addresses.from_settings())
    if known is not None:
        return known.outcome, str(known)
    # A mistake of ours: nobody can act on it without the traceback.
    print_traceback(error)
    return Outcome.UNAVAILABLE, f"{type(error).__name__}: {in_brief(error)} (traceback on stderr)"


def _settle(name: str, store: Store, *, dry_run: bool) -> None:
    """Make sure that the task's name is free for it, and deliver and complete what earlier runs of any task left."""
    versions.require_ours(store, name)
    if not dry_run:
        with suppress(Exception):  # what earlier runs could not tell MLflow is kept; an outage is noticed where it matters
            flushing.flush_all(store)
            settle_what_broke_off(store, name)


def _what_changed(task: ResolvedTask, last: Version) -> str:
    now = task.fingerprints
    library = "the library's code, torch or transformers"
    parts = {tags.DATA_FINGERPRINT: ("the data", now.data), tags.SPEC_FINGERPRINT: ("the spec", now.spec)}
    parts[tags.BASE_FINGERPRINT] = ("the base model", task.base.fingerprint)
    changed = [name for tag, (name, value) in parts.items() if last.tags.get(tag) != value]
    return f"{' and '.join(changed) or library} changed"


def _dry_run(task: ResolvedTask, store: Store, steps: Steps, flow_run: FlowRun | None) -> LifecycleResult:
    """Train, evaluate and assess as ``_run`` does; MLflow is only read. A run after it uses the training again."""
    champion = fetch_champion(task, store)
    steps.check(task, champion)
    candidate = best_seed(steps.train(task, store, None, champion))
    results = steps.evaluate(task, candidate, champion)
    return _result(task, steps.assess(task, results, store, champion))


def _run(task: ResolvedTask, store: Store, steps: Steps, flow_run: FlowRun | None) -> LifecycleResult:
    """Everything that is recorded; the MLflow run is closed with an outcome whatever happens."""
    champion = fetch_champion(task, store)
    steps.check(task, champion)
    left = store.retry(lambda: left_undecided(store, task.name))
    begun = _adopted(task, store, steps, champion, left, flow_run) or Begun(steps.open_run(task, store, flow_run))
    run = begun.run
    try:
        version, assessment = _decided(task, store, steps, champion, begun, flow_run)
        _if_answered(store, lambda: withdraw_others(store, left, version))
        return _concluded(task, store, run, version, assessment, flow_run)
    except Exception as error:
        outcome, reason = outcome_of(error, store.addresses)
        close_run(task.name, store, run, runs.ending(outcome, describe_run(task, outcome, reason, flow_run=flow_run)))
        return LifecycleResult(task=task.name, outcome=outcome, reason=reason, run_id=run.id, run_url=run.url)
    except BaseException as error:
        with suppress(Exception):  # the first error must not be hidden
            close_run(task.name, store, run, runs.ending_of(error))
        raise


def _adopted(
    task: ResolvedTask,
    store: Store,
    steps: Steps,
    champion: Champion | None,
    left: Sequence[Version],
    flow_run: FlowRun | None,
) -> Begun | None:
    """An earlier run of the same inputs that came as far as a version. Its training is finished, or is repeated here."""
    if not adoptable(task, left):
        return None
    candidate = best_seed(steps.train(task, store, None, champion))
    return store.retry(lambda: adopt(task, store, left, candidate, flow_run))


def _decided(
    task: ResolvedTask,
    store: Store,
    steps: Steps,
    champion: Champion | None,
    begun: Begun,
    flow_run: FlowRun | None,
) -> tuple[Version, Assessment]:
    """Train, evaluate, register and decide; the gates look again when the champion moves meanwhile."""
    run, candidate = begun.run, begun.candidate
    if candidate is None:
        seeds = steps.train(task, store, run, champion)
        candidate = best_seed(seeds)
        steps.log_training(task, store, run, seeds, candidate)
    results = steps.evaluate(task, candidate, champion)
    version = begun.version or steps.register(task, store, run, candidate, flow_run)
    champion_moved = False

    def attempt() -> Assessment:
        nonlocal champion, results, champion_moved
        if champion_moved:
            champion = fetch_champion(task, store)
            results = steps.evaluate(task, candidate, champion)
        champion_moved = True  # if there is another attempt
        assessment = steps.assess(task, results, store, champion)
        steps.log_assessment(task, store, assessment, Origin(run, version.version, candidate, flow_run))
        steps.decide(task, store, version, assessment)
        return assessment

    return version, with_current_champion(store, task.name, attempt)


def _concluded(
    task: ResolvedTask, store: Store, run: TrackedRun, version: Version, assessment: Assessment, flow_run: FlowRun | None
) -> LifecycleResult:
    """Describe what was decided and close the run. The decision stands, whether MLflow answers from here on or not."""
    decision = assessment.decision
    description = describe_version(task, assessment, run, flow_run)
    _if_answered(store, lambda: _describe(store, version, description))
    link = version_link(store, version)
    words = describe_run(task, decision.outcome, decision.verdict, assessment=assessment, version_link=link, flow_run=flow_run)
    close_run(task.name, store, run, runs.ending(decision.outcome, words, _run_name(version, assessment)))
    size = _if_answered(store, lambda: versions.version_size_bytes(store, task.name, version.version))
    return _result(task, assessment).model_copy(
        update=dict(version=version.version, run_id=run.id, run_url=run.url, size_bytes=size)
    )


def _run_name(version: Version, assessment: Assessment) -> str:
    """``v3 rejected 0.637 (champion 0.787)``: what lists of runs show."""
    scores = assessment.scores
    champion = f" (champion {scores['champion']:.3f})" if "champion" in scores else ""
    score = f" {scores['candidate']:.3f}" if "candidate" in scores else ""
    return f"v{version.version} {assessment.decision.outcome.value.replace('_', ' ')}{score}{champion}"


def _describe(store: Store, version: Version, description: str) -> None:
    """The words on the version, by what was decided up to now; and on others that stand otherwise by now, as one that nobody
    approved in time."""
    ledger = task_state(store, version.name).entries
    write_standing(store, version.name, version.version, ledger, description)
    if any(disagrees(each, ledger) for each in versions.list_versions(store, version.name)):
        refresh_descriptions(store, version.name)


def _result(task: ResolvedTask, assessment: Assessment) -> LifecycleResult:
    return LifecycleResult(
        task=task.name,
        outcome=assessment.decision.outcome,
        reason=assessment.decision.verdict,
        metric=assessment.headline,
        scores=assessment.scores,
        gates=tuple(assessment.decision.to_text().splitlines()[1:]),
    )


def _if_answered(store: Store, call: Callable[[], T]) -> T | None:
    """What MLflow says; None if it does not answer, or somebody keeps deciding, which is told and nothing more."""
    try:
        return call()
    except Exception as error:
        problem = error if isinstance(error, SoftpromptError) else unavailable(error, store.addresses)
        if problem is None:
            raise
        print(f"decided, but not all of it is described: {problem}", file=sys.stderr)
        return None
