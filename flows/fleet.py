"""Many tasks on one base: lifecycles one after the other in one process, or spread over a Ray cluster; a process loads the base
once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows import handover
from flows.late_runs import collapse_late_runs
from flows.lifecycle import FAILURES, failure, lifecycle, unchanged
from flows.notifying import notify
from softprompt_core.errors import InvalidInput, Outcome, SoftpromptError
from softprompt_core.spec import PromptSpec, load_spec, spec_files
from softprompt_core.stages.result import LifecycleResult
from tasks.fan_out import Item, fan_out

_AWAY = "the Prefect server stopped answering before the lifecycle began\n  → start it, then run the task again"


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
        paths = [path for given in specs for path in _files(Path(given))]
    except SoftpromptError as error:
        return handover.final_state(error.outcome.state_name, str(error), [], failed=True)
    results = run_all(paths, force=force, dry_run=dry_run, ray=ray)
    handover.keep(results)
    counts: dict[str, int] = {}
    for result in results:
        counts[result.outcome.value] = counts.get(result.outcome.value, 0) + 1
    failed = any(result.outcome in FAILURES for result in results)
    words = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    return handover.final_state(None, words, [result.to_json() for result in results], failed=failed)


def _files(path: Path) -> list[Path]:
    return spec_files(path) if path.is_dir() else [path]


def run_all(paths: list[Path], *, force: bool, dry_run: bool = False, ray: bool = False) -> list[LifecycleResult]:
    """One result a spec, in order. Two specs with one name would overwrite each other's versions: the second is invalid.

    A task with nothing to do gets no flow run of its own: in a large fleet most have nothing to do, and each would cost a second.
    """
    results: dict[int, LifecycleResult] = {}
    specs: dict[int, PromptSpec] = {}
    seen: dict[str, Path] = {}
    for place, path in enumerate(paths):
        try:
            spec = load_spec(path)
            if spec.name in seen:
                raise InvalidInput(
                    f"the name `{spec.name}` is taken by {seen[spec.name]}", where=str(path), do="give every task its own name"
                )
            seen[spec.name], specs[place] = path, spec
        except SoftpromptError as error:
            results[place] = LifecycleResult(path.stem, error.outcome, str(error), dry_run=dry_run)
            notify(results[place])
            continue
        same = None if force else unchanged(specs[place], dry_run=dry_run)
        if same is not None:
            results[place] = same
            notify(same)
            del specs[place]
    run = _spread if ray else _one_after_the_other
    results |= zip(specs, run(list(specs.values()), force, dry_run), strict=True)
    return [results[place] for place in range(len(paths))]


def _one_after_the_other(specs: list[PromptSpec], force: bool, dry_run: bool) -> list[LifecycleResult]:
    return [run_one(spec, force=force, dry_run=dry_run) for spec in specs]


def _spread(specs: list[PromptSpec], force: bool, dry_run: bool) -> list[LifecycleResult]:
    """Each lifecycle as a flow run of its own on a worker of the Ray cluster."""
    items = [Item(spec.name, spec.base_model.model_dump_json(), (spec, force, dry_run)) for spec in specs]
    try:
        found = fan_out(_on_worker, items)
    except Exception as error:
        found = [failure(error)] * len(specs)
    results = []
    for spec, result in zip(specs, found, strict=True):
        if not isinstance(result, LifecycleResult):
            outcome, reason = result if isinstance(result, tuple) else failure(result)
            result = LifecycleResult(spec.name, outcome, reason, dry_run=dry_run)
            notify(result)  # the flow that would have done so did not end
        results.append(result)
    return results


def _on_worker(spec: PromptSpec, force: bool, dry_run: bool) -> LifecycleResult:
    return run_one(spec, force=force, dry_run=dry_run)


def run_one(spec: PromptSpec, *, force: bool, dry_run: bool = False, ray: bool = False) -> LifecycleResult:
    """Run the lifecycle flow of one task and take its result from the final state.

    What the lifecycle did counts, whether Prefect could be told or not.
    """
    named = lifecycle.with_options(flow_run_name=spec.name)
    with handover.results() as found:
        try:
            state = named(spec.model_dump(mode="json"), force=force, dry_run=dry_run, ray=ray, return_state=True)
            return LifecycleResult.from_json(handover.found_in(state))
        except Exception as error:
            if not handover.is_away(error):
                raise
            handover.say_away(error)
            return found[-1] if found else LifecycleResult(spec.name, Outcome.UNAVAILABLE, _AWAY, dry_run=dry_run)


def run_fleet(paths: list[Path], *, force: bool, dry_run: bool = False, ray: bool = False) -> list[LifecycleResult]:
    """Run the fleet flow and take one result a spec from its final state; likewise."""
    with handover.results() as found:
        try:
            state = fleet([str(path) for path in paths], force=force, dry_run=dry_run, ray=ray, return_state=True)
            return [LifecycleResult.from_json(value) for value in handover.found_in(state)]
        except Exception as error:
            if not handover.is_away(error):
                raise
            handover.say_away(error)
            return found or [LifecycleResult(path.stem, Outcome.UNAVAILABLE, _AWAY, dry_run=dry_run) for path in paths]
