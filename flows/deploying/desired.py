"""The desired state: which deployments there should be, read from specs and environment, without a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prefect.client.schemas.schedules import CronSchedule
from pydantic import ValidationError

from flows.deploying.environment import Environment
from softprompt_core.errors import InvalidInput, SoftpromptError
from softprompt_core.spec import PromptSpec, load_spec

OWNED = "softprompt"
"""Tag of everything that ``softprompt deploy`` makes; nothing without it is ever changed or removed."""


@dataclass(frozen=True)
class DesiredDeployment:
    """One deployment as it should be."""

    name: str
    task: str
    description: str
    cron: str | None
    timezone: str | None
    tags: tuple[str, ...]
    parameters: dict[str, Any]
    job_variables: dict[str, Any]
    pull_steps: list[dict[str, Any]]
    work_pool: str

    @property
    def spec(self) -> str:
        return str(self.parameters["spec"])


@dataclass(frozen=True)
class DesiredState:
    """All deployments of a call, and which others of the environment it may remove.

    Attributes:
        scope: spec files and folders (with a slash at the end) that the call is about, as deployments record them; None: all.
    """

    deployments: tuple[DesiredDeployment, ...]
    scope: tuple[str, ...] | None

    def covers(self, spec: str) -> bool:
        """Whether the call may remove a deployment of this spec file."""
        return self.scope is None or spec in self.scope or spec.rpartition("/")[0] + "/" in self.scope


@dataclass(frozen=True)
class Change:
    """What was done, or with a dry run would be done, to one thing on the server."""

    kind: Literal["work pool", "deployment", "automation"]
    name: str
    action: Literal["created", "updated", "removed", "unchanged"]
    detail: str = ""


def environment_tag(name: str) -> str:
    return f"{OWNED}-environment:{name}"


def desired_state(
    name: str, environment: Environment, targets: Sequence[Path], *, root: Path, lifecycle_parameters: Sequence[str]
) -> DesiredState:
    """Read all specs. One bad spec stops everything: half an environment is worse than the previous one.

    Args:
        name: the environment's name.
        targets: spec files and folders of them; none: the environment's own.
        root: the folder that specs are recorded relative to; the workers' ``working_directory`` stands for it.
        lifecycle_parameters: names that ``parameters`` may hold.

    Raises:
        InvalidInput: a bad spec or folder, a task twice, a spec outside of ``root``, or an unknown parameter.
    """
    where = f"environment {name}"
    if unknown := sorted(set(environment.parameters) - set(lifecycle_parameters)):
        what = f"`parameters`: the lifecycle has no {', '.join(unknown)}; it has {', '.join(lifecycle_parameters)}"
        raise InvalidInput(what, where=where, do="correct the environment file")
    if not targets and not environment.specs:
        do = "name spec files or folders, or set `specs` in the environment file"
        raise InvalidInput("no specs are named", where=where, do=do)
    paths: list[Path] = []
    scope: list[str] = []
    for target in targets or map(Path, environment.specs):
        scope.append(_recorded(target, root) + ("/" if target.is_dir() else ""))
        paths += _spec_files(target)
    deployments = tuple(_deployment(name, environment, spec, path, root) for spec, path in _load(paths))
    return DesiredState(deployments, tuple(scope) if targets else None)


def _load(paths: Sequence[Path]) -> list[tuple[PromptSpec, Path]]:
    """All specs, or one error that lists what is wrong with any."""
    specs: dict[str, tuple[PromptSpec, Path]] = {}
    problems: list[SoftpromptError] = []
    for path in paths:
        try:
            spec = load_spec(path)
            _check_cron(spec, path)
        except SoftpromptError as error:
            problems.append(error)
            continue
        _, first = specs.setdefault(spec.name, (spec, path))
        if first.resolve() != path.resolve():
            what = f"the name `{spec.name}` is taken by {first}"
            problems.append(InvalidInput(what, where=str(path), do="give every task its own name"))
    if problems:
        first_problem, *others = problems
        what = "\n".join([first_problem.what, *(f"{error.where}: {error.what}" for error in others)])
        raise InvalidInput(what, where=first_problem.where, do=first_problem.do)
    return list(specs.values())


def _spec_files(target: Path) -> list[Path]:
    """An empty folder is meant: its last spec was removed. A missing one is a typing mistake."""
    if target.is_dir():
        return sorted([*target.glob("*.yaml"), *target.glob("*.yml")])
    if target.is_file():
        return [target]
    raise InvalidInput("no such spec file or folder", where=str(target), do="check the path")


def _check_cron(spec: PromptSpec, path: Path) -> None:
    """Prefect's own check: the spec's is less strict."""
    if spec.schedule is None:
        return
    try:
        CronSchedule(cron=spec.schedule.cron, timezone=spec.schedule.timezone)
    except ValidationError as error:
        what = f"`schedule.cron`: {error.errors()[0]['msg'].removeprefix('Value error, ')}"
        do = "five fields: minute hour day month weekday, as in `0 3 * * 1`"
        raise InvalidInput(what, where=str(path), do=do) from None


def _recorded(path: Path, root: Path) -> str:
    try:
        return path.expanduser().resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        raise InvalidInput(
            f"lies outside of the current folder {root}, so a worker could not find it",
            where=str(path),
            do="run `softprompt deploy` in the folder that holds specs and data, and that workers have too",
        ) from None


def _deployment(name: str, environment: Environment, spec: PromptSpec, path: Path, root: Path) -> DesiredDeployment:
    schedule = spec.schedule if environment.schedules else None
    variables = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(environment.heartbeat_seconds), **environment.env}
    folder = environment.working_directory or str(root.resolve())
    return DesiredDeployment(
        name=environment.deployment_name.replace("{task}", spec.name),
        task=spec.name,
        description=spec.description,
        cron=schedule.cron if schedule else None,
        timezone=schedule.timezone if schedule else None,
        tags=tuple(sorted({OWNED, environment_tag(name), *environment.tags})),
        parameters={**environment.parameters, "spec": _recorded(path, root)},
        job_variables={**environment.job_variables, "env": variables},
        # Without a pull step a run would start in an empty folder of the worker's, and find neither spec nor data.
        pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": folder}}],
        work_pool=environment.work_pool.name,
    )
