"""After a change of the base model: list which champions still hold on it. Promotes nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.final_states import call_flow, report
from flows.results import current_flow_run, show_table
from flows.servers.prefect_server import await_server
from softprompt_core.errors import SoftpromptError, Validity
from softprompt_core.operations.revalidate import Revalidation
from softprompt_core.spec import BaseModelSpec, load_spec, names_spec_file, spec_files
from softprompt_core.store import tags, versions
from softprompt_core.store.connection import Store
from tasks.monitoring import revalidate_champion


@flow(name="softprompt-revalidate", validate_parameters=False)
def revalidate(targets: list[str] | None = None, base: str | None = None, revision: str | None = None) -> State[Any]:
    """Say of every champion whether it holds, fails or cannot be tried on a base.

    Args:
        targets: names of tasks, spec files, or folders of them; all registered tasks by default.
        base: the base in question: a hub id, a folder or `bundled`. By default the one that each spec names.
        revision: commit of a hub model.
    """
    other_base = BaseModelSpec(id=base, revision=revision) if base is not None else None
    results = [_revalidate(target, other_base) for target in _expand(targets)]
    counts = Counter(result.validity for result in results)
    message = ", ".join(f"{counts[validity]} {validity.value}" for validity in Validity if counts[validity]) or "no champion"
    table: list[dict[str, Any]] = [
        dict(task=r.task, champion=r.version, validity=r.validity.value, reason=r.reason) for r in results
    ]
    report(results)
    await_server()
    show_table("revalidation", table or [{"task": "–"}], message)
    return Completed(name="Revalidated", message=message, data=results)


def run_revalidation(targets: list[str], base: str | None, revision: str | None) -> list[Revalidation]:
    """Run the flow and take its list from the final state."""
    return call_flow(lambda: revalidate(targets, base, revision, return_state=True))


def _expand(targets: list[str] | None) -> list[str | Path | SoftpromptError]:
    """Names of tasks, spec files, and what is wrong with a folder; without targets every task that has a champion."""
    if not targets:
        return [version.name for version in versions.list_versions(Store.connect()) if tags.CHAMPION in version.aliases]
    expanded: list[str | Path | SoftpromptError] = []
    for target in targets:
        path = Path(target)
        # A task's data may lie in a folder of its name.
        is_folder = path.is_dir() and (path.name != target or bool(list(path.glob("*.y*ml"))))
        try:
            files = spec_files(path) if is_folder else None
        except SoftpromptError as error:  # an empty folder does not stop the others
            expanded.append(error)
            continue
        if files is not None:
            expanded += files
        else:
            expanded.append(path if names_spec_file(target) else target)
    return expanded


def _revalidate(target: str | Path | SoftpromptError, base: BaseModelSpec | None) -> Revalidation:
    """Whatever is wrong with one champion or its spec does not stop the others."""
    if isinstance(target, SoftpromptError):
        return Revalidation.failed(Path(target.where or "?").name, target)
    name = target.stem if isinstance(target, Path) else target
    try:
        spec = load_spec(target) if isinstance(target, Path) else None
        name = spec.name if spec is not None else name
        return revalidate_champion(name, base, spec, current_flow_run())
    except Exception as error:
        return Revalidation.failed(name, error)
