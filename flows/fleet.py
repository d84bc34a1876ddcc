"""Many tasks on one base: lifecycles one after the other in one process, so that the base is loaded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.lifecycle import lifecycle
from flows.notifying import notify
from softprompt_core.errors import InvalidInput, Outcome, SoftpromptError
from softprompt_core.spec import PromptSpec, load_spec
from softprompt_core.stages.result import LifecycleResult


@flow(name="softprompt-fleet", validate_parameters=False)
def fleet(specs: list[str], force: bool = False, dry_run: bool = False) -> State[Any]:
    """Bring every task up to date; a bad spec or a failed task does not stop the others.

    Args:
        specs: paths of spec files.
        force: run tasks even if nothing has changed.
        dry_run: write nothing to MLflow.
    """
    results = run_all([Path(path) for path in specs], force=force, dry_run=dry_run)
    counts: dict[str, int] = {}
    for result in results:
        counts[result.outcome.value] = counts.get(result.outcome.value, 0) + 1
    failed = any(result.outcome in (Outcome.INVALID, Outcome.DIVERGED, Outcome.UNAVAILABLE) for result in results)
    words = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    return (Failed if failed else Completed)(message=words, data=[result.to_json() for result in results])


def run_all(paths: list[Path], *, force: bool, dry_run: bool = False) -> list[LifecycleResult]:
    """One result a spec, in order. Two specs with one name would overwrite each other's versions: the second is invalid."""
    results: list[LifecycleResult] = []
    seen: dict[str, Path] = {}
    for path in paths:
        try:
            spec = load_spec(path)
            if spec.name in seen:
                raise InvalidInput(
                    f"the name `{spec.name}` is taken by {seen[spec.name]}", where=str(path), do="give every task its own name"
                )
            seen[spec.name] = path
        except SoftpromptError as error:
            results.append(LifecycleResult(path.stem, error.outcome, str(error), dry_run=dry_run))
            notify(results[-1])
            continue
        results.append(run_one(spec, force=force, dry_run=dry_run))
    return results


def run_one(spec: PromptSpec, *, force: bool, dry_run: bool = False) -> LifecycleResult:
    """Run the lifecycle flow of one task and take its result from the final state."""
    named = lifecycle.with_options(flow_run_name=spec.name)
    state = named(spec.model_dump(mode="json"), force=force, dry_run=dry_run, return_state=True)
    return LifecycleResult.from_json(_value(state))


def run_fleet(paths: list[Path], *, force: bool, dry_run: bool = False) -> list[LifecycleResult]:
    """Run the fleet flow and take one result a spec from its final state."""
    state = fleet([str(path) for path in paths], force=force, dry_run=dry_run, return_state=True)
    return [LifecycleResult.from_json(value) for value in _value(state)]


def _value(state: State[Any]) -> Any:
    value: Any = state.result(raise_on_failure=False)
    if isinstance(value, BaseException):
        raise value
    return value
