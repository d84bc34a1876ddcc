"""Many tasks on one base: lifecycles one after the other in one process, or spread over a Ray cluster; a process loads the base
once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows import stopping
from flows.final_states import call_flow, final_state, report
from flows.late_runs import collapse_late_runs
from flows.lifecycle import FAILURES, lifecycle
from flows.notifying import notify
from flows.servers import own_server
from flows.servers.prefect_server import await_server
from flows.state_names import count_endings
from softprompt_core.errors import Outcome, SoftpromptError
from softprompt_core.lifecycle.result import LifecycleResult
from softprompt_core.lifecycle.run import outcome_of, run_if_unchanged, run_task
from softprompt_core.lifecycle.steps import Steps
from softprompt_core.spec import PromptSpec, load_each, spec_files
from softprompt_core.store.connection import Store
from tasks.ray_pool import Item, fan_out
from tasks.training import train_task

_known: ContextVar[Sequence[LifecycleResult]] = ContextVar("known", default=())  # a flow's parameters are plain data


@flow(name="softprompt-fleet", validate_parameters=False, on_running=[collapse_late_runs])
def fleet(specs: list[str], force: bool = False, dry_run: bool = False, ray: bool = False) -> State[Any]:
    """Bring every task up to date; a bad spec or a failed task does not stop the others.

    Args:
        specs: paths of spec files; a folder stands for all that are in it when the run starts.
        force: run tasks even if nothing has changed.
        dry_run: write nothing to MLflow.
        ray: spread the tasks over the Ray cluster that the settings name.
    """
    try:
        paths = [file for path in map(Path, specs) for file in (spec_files(path) if path.is_dir() else [path])]
    except SoftpromptError as error:
        results = [_failed(Path(spec).stem, error.outcome, str(error), dry_run) for spec in specs]
        return final_state(error.outcome.state_name, str(error), results, failed=True)
    results = run_all(paths, force=force, dry_run=dry_run, ray=ray)
    report(results)
    await_server()
    return final_state(None, count_endings(results), results, failed=any(result.outcome in FAILURES for result in results))


def run_all(paths: list[Path], *, force: bool, dry_run: bool = False, ray: bool = False) -> list[LifecycleResult]:
    """One result a spec, in order; the second of two specs with one name is invalid.

    A task with nothing to do gets no flow run of its own: in a large fleet most have nothing to do, and each would cost a second.
    """
    results: dict[int, LifecycleResult] = {}
    specs: dict[int, PromptSpec] = {}
    known = _known.get()
    store = None if force else _store()
    for index, (path, spec) in enumerate(load_each(paths)):
        if isinstance(spec, Exception):
            outcome, reason = outcome_of(spec)
            result: LifecycleResult | None = _failed(path.stem, outcome, reason, dry_run)
        elif index < len(known):
            result = known[index]
        else:
            result = None if store is None else run_if_unchanged(spec, store=store, dry_run=dry_run)
        if result is not None:
            results[index] = result
            stopping.note_finished(result)
            notify(result)
        elif isinstance(spec, PromptSpec):
            specs[index] = spec
    run = _spread if ray else _one_after_the_other
    results |= zip(specs, run(list(specs.values()), force, dry_run), strict=True)
    return [results[index] for index in range(len(paths))]


def run_one(spec: PromptSpec, *, force: bool, dry_run: bool = False, ray: bool = False) -> LifecycleResult:
    """Run the lifecycle flow of one task and take its result; without the flow where this command's own server has ended."""
    stopping.raise_if_stopped()
    results: list[LifecycleResult] = []
    if not own_server.is_lost():
        named = lifecycle.with_options(flow_run_name=spec.name)
        values = spec.model_dump(mode="json")
        results = call_flow(lambda: named(values, force=force, dry_run=dry_run, ray=ray, return_state=True))
    if not results and own_server.is_lost():
        print(f"{spec.name}: Prefect is not told, its own server has ended", file=sys.stderr)
        results = [run_task(spec, force=force, dry_run=dry_run, steps=replace(Steps(), train=train_task(spread_seeds=False)))]
    (result,) = results or [_not_begun(spec.name, dry_run)]
    stopping.note_finished(result)
    return result


def run_fleet(
    paths: list[Path], known: Sequence[LifecycleResult] = (), *, force: bool, dry_run: bool = False, ray: bool = False
) -> list[LifecycleResult]:
    """Run the fleet flow and take one result a spec.

    Args:
        known: results of the first specs, which were found to have nothing to do.
    """
    specs = [str(path) for path in paths]
    token = _known.set(known)
    try:
        results = call_flow(lambda: fleet(specs, force=force, dry_run=dry_run, ray=ray, return_state=True))
        if not results and own_server.is_lost():
            return run_all(paths, force=force, dry_run=dry_run)
    finally:
        _known.reset(token)
    return results or [_not_begun(path.stem, dry_run) for path in paths]


def _store() -> Store | None:
    try:
        return Store.connect()
    except SoftpromptError:
        return None  # each lifecycle meets the same error, and makes an outcome of it


def _one_after_the_other(specs: list[PromptSpec], force: bool, dry_run: bool) -> list[LifecycleResult]:
    return [run_one(spec, force=force, dry_run=dry_run) for spec in specs]


def _spread(specs: list[PromptSpec], force: bool, dry_run: bool) -> list[LifecycleResult]:
    """Each lifecycle as a flow run of its own on a worker of the Ray cluster."""
    items = [Item(spec.name, spec.base_model.model_dump_json(), (spec, force, dry_run)) for spec in specs]
    try:
        outcomes = fan_out(_on_worker, items)
    except Exception as error:
        outcomes = [error] * len(specs)
    results = []
    for spec, result in zip(specs, outcomes, strict=True):
        if not isinstance(result, LifecycleResult):
            outcome, reason = outcome_of(result)
            result = _failed(spec.name, outcome, reason, dry_run)
            notify(result)  # the flow that would have done so did not end
        results.append(result)
    return results


def _on_worker(spec: PromptSpec, force: bool, dry_run: bool) -> LifecycleResult:
    return run_one(spec, force=force, dry_run=dry_run)


def _failed(task: str, outcome: Outcome, reason: str, dry_run: bool) -> LifecycleResult:
    return LifecycleResult(task=task, outcome=outcome, reason=reason, dry_run=dry_run)


def _not_begun(task: str, dry_run: bool) -> LifecycleResult:
    reason = "the Prefect server stopped answering before the lifecycle began\n  → start it, then run the task again"
    return _failed(task, Outcome.UNAVAILABLE, reason, dry_run)
