"""After a change of the base model: list which champions still hold on it. Promotes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.handover import found_in
from softprompt_core import registry
from softprompt_core.errors import SoftpromptError, Validity
from softprompt_core.registry import tags
from softprompt_core.spec import BaseModelSpec, PromptSpec, load_spec, spec_files
from softprompt_core.stages import record
from softprompt_core.stages.revalidation import Revalidation
from tasks.revalidation import revalidate_champion


@flow(name="softprompt-revalidate", validate_parameters=False)
def revalidate(targets: list[str] | None = None, base: str | None = None, revision: str | None = None) -> State[Any]:
    """Say of every champion whether it holds, fails or cannot be tried on a base.

    Args:
        targets: names of tasks, spec files, or folders of them; all registered tasks by default.
        base: the base in question: a hub id, a folder or `bundled`. By default the one that each spec names.
        revision: commit of a hub model.
    """
    wanted = BaseModelSpec(id=base, revision=revision) if base is not None else None
    flow_run = runtime.flow_run.get_id()
    found = [one if isinstance(one, Revalidation) else _one(*one, wanted, flow_run) for one in _champions(targets or [])]
    counts = {validity: sum(one.validity is validity for one in found) for validity in Validity}
    words = ", ".join(f"{count} {validity.value}" for validity, count in counts.items() if count) or "no champion"
    table = [{"task": one.task, "champion": one.version, "validity": one.validity.value, "reason": one.reason} for one in found]
    create_table_artifact(table or [{"task": "–"}], key="revalidation", description=words)
    return Completed(name="Revalidated", message=words, data=[one.to_json() for one in found])


def run_revalidation(targets: list[str], base: str | None, revision: str | None) -> list[Revalidation]:
    """Run the flow and take its list from the final state."""
    state = revalidate(targets, base, revision, return_state=True)
    known = [{key: part for key, part in one.items() if key != "exit_code"} for one in found_in(state)]
    return [Revalidation(**{**one, "validity": Validity(one["validity"])}) for one in known]


def _one(name: str, spec: PromptSpec | None, base: BaseModelSpec | None, flow_run: str | None) -> Revalidation:
    try:
        return revalidate_champion(name, base, spec, flow_run)
    except SoftpromptError as error:
        return Revalidation(name, Validity.CANNOT, str(error))


def _champions(targets: list[str]) -> list[tuple[str, PromptSpec | None] | Revalidation]:
    """Task and, where it is given, its spec of now; for a spec that cannot be read, what there is to say about it.

    Without targets every task that has a champion.
    """
    if not targets:
        versions = registry.list_versions(record.client())
        return [(version.name, None) for version in versions if tags.CHAMPION in version.aliases]
    found: list[tuple[str, PromptSpec | None] | Revalidation] = []
    for target in targets:
        path = Path(target)
        if path.is_dir():
            found += map(_of_file, spec_files(path))
        elif path.suffix in (".yaml", ".yml") or path.is_file():
            found.append(_of_file(path))
        else:
            found.append((target, None))
    return found


def _of_file(path: Path) -> tuple[str, PromptSpec | None] | Revalidation:
    try:
        spec = load_spec(path)
    except SoftpromptError as error:
        return Revalidation(path.stem, Validity.CANNOT, str(error))
    return spec.name, spec
