"""Which deployments there should be: read from specs and environment, without a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from prefect.client.schemas.schedules import CronSchedule
from pydantic import ValidationError

from flows.deploying.environment import Environment
from softprompt_core.errors import InvalidInput, SoftpromptError
from softprompt_core.spec import PromptSpec, load_spec

OURS = "softprompt"
"""Tag of everything that ``softprompt deploy`` makes; nothing without it is ever changed or removed."""


@dataclass(frozen=True)
class Wanted:
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
class Plan:
    """All deployments of a call, and which others of the environment it may remove."""

    deployments: tuple[Wanted, ...]
    scope: tuple[str, ...] | None
    """Spec files and folders (with a slash at the end) that the call is about, as deployments record them; None: all."""

    def covers(self, spec: str) -> bool:
        """Whether a deployment of this spec file is this call's affair."""
        if self.scope is None:
            return True
        folder = spec.rpartition("/")[0] + "/"
        return spec in self.scope or folder in self.scope


@dataclass(frozen=True)
class Change:
    """What was done, or with a dry run would be done, to one thing on the server."""

    kind: Literal["work pool", "deployment", "automation"]
    name: str
    action: Literal["created", "updated", "removed", "unchanged"]
    detail: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def environment_tag(name: str) -> str:
    return f"{OURS}-environment:{name}"


def plan(name: str, environment: Environment, targets: Sequence[Path], *, here: Path, known: Sequence[str]) -> Plan:
    """Read all specs. One bad spec stops everything: half an environment is worse than the one of before.

    Args:
        name: the environment's name.
        environment: its settings.
        targets: spec files and folders of them; none: the environment's own.
        here: the folder that specs are recorded relative to; the workers' ``working_directory`` stands for it.
        known: parameters that the lifecycle takes.

    Raises:
        InvalidInput: a bad spec or folder, a task twice, a spec outside of ``here``, or a parameter that nobody knows.
    """
    odd = sorted(set(environment.parameters) - set(known))
    if odd:
        words = f"`parameters`: the lifecycle has no {', '.join(odd)}; it has {', '.join(known)}"
        raise InvalidInput(words, where=f"environment {name}", do="correct the environment file")
    if not targets and not environment.specs:
        raise InvalidInput(
            "no specs are named",
            where=f"environment {name}",
            do="name spec files or folders, or set `specs` in the environment file",
        )
    chosen = targets or [Path(folder) for folder in environment.specs]
    found: dict[str, tuple[Path, PromptSpec]] = {}
    problems: list[SoftpromptError] = []
    scope: list[str] = []
    for target in chosen:
        scope.append(_recorded(target, here) + ("/" if target.is_dir() else ""))
        for path in _spec_files(target):
            try:
                spec = load_spec(path)
            except SoftpromptError as error:
                problems.append(error)
                continue
            if (odd_cron := _odd_cron(spec)) is not None:
                problems.append(
                    InvalidInput(
                        f"`schedule.cron`: {odd_cron}",
                        where=str(path),
                        do="five fields: minute hour day month weekday, as in `0 3 * * 1`",
                    )
                )
            before = found.setdefault(spec.name, (path, spec))[0]
            if before.resolve() != path.resolve():
                problems.append(
                    InvalidInput(
                        f"the name `{spec.name}` is taken by {before}", where=str(path), do="give every task its own name"
                    )
                )
    if problems:
        first = problems[0]
        rest = "".join(f"\n{error.where}: {error.what}" for error in problems[1:])
        raise InvalidInput(first.what + rest, where=first.where, do=first.do)
    deployments = tuple(_wanted(name, environment, spec, _recorded(path, here), here) for path, spec in found.values())
    return Plan(deployments, tuple(scope) if targets else None)


def _spec_files(target: Path) -> list[Path]:
    """An empty folder is meant: its last spec was removed. A missing one is a typing mistake."""
    if target.is_dir():
        return sorted([*target.glob("*.yaml"), *target.glob("*.yml")])
    if target.is_file():
        return [target]
    raise InvalidInput("no such spec file or folder", where=str(target), do="check the path")


def _odd_cron(spec: PromptSpec) -> str | None:
    """What Prefect has against a spec's cron. The spec itself counts its fields only."""
    if spec.schedule is None:
        return None
    try:
        CronSchedule(cron=spec.schedule.cron, timezone=spec.schedule.timezone)
    except ValidationError as error:
        return str(error.errors()[0]["msg"].removeprefix("Value error, "))
    return None


def _recorded(path: Path, here: Path) -> str:
    try:
        return path.expanduser().resolve().relative_to(here.resolve()).as_posix()
    except ValueError:
        raise InvalidInput(
            f"lies outside of the current folder {here}, so a worker could not find it",
            where=str(path),
            do="run `softprompt deploy` in the folder that holds specs and data, and that workers have too",
        ) from None


def _wanted(name: str, environment: Environment, spec: PromptSpec, path: str, here: Path) -> Wanted:
    schedule = spec.schedule if environment.schedules else None
    env = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(environment.heartbeat_seconds), **environment.env}
    folder = environment.working_directory or str(here.resolve())
    return Wanted(
        name=environment.deployment_name.replace("{task}", spec.name),
        task=spec.name,
        description=spec.description,
        cron=schedule.cron if schedule else None,
        timezone=schedule.timezone if schedule else None,
        tags=tuple(sorted({OURS, environment_tag(name), *environment.tags})),
        parameters={**environment.parameters, "spec": path},
        job_variables={**environment.job_variables, "env": env},
        # Without a pull step a run would start in an empty folder of the worker's, and find neither spec nor data.
        pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": folder}}],
        work_pool=environment.work_pool.name,
    )
