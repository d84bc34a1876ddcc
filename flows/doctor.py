"""What may be wrong on this machine, and what to do about it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any, Literal

from softprompt_core import settings
from softprompt_core.errors import SoftpromptError
from softprompt_core.stages.workspace import home

_NEEDED_GB = 2.0


@dataclass(frozen=True)
class Finding:
    """One check. ``do`` is empty when there is nothing to do."""

    status: Literal["ok", "warning", "problem"]
    what: str
    found: str
    do: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def examine() -> list[Finding]:
    """Run every check; a check that fails does not stop the others."""
    checks = (_versions, _disk, _record, _ledger, _prefect, _base)
    return [finding for check in checks for finding in _safely(check, check.__name__.strip("_"))]


def repair() -> list[Finding]:
    """Complete or void what dead processes left in MLflow; note champions that were moved by hand. One finding a change."""

    def settle() -> Iterator[Finding]:
        from softprompt_core import registry
        from softprompt_core.stages import record

        client = record.client()
        for task in registry.clear_dead_tickets(client):
            yield Finding("ok", "repair", f"{task}: a dead process no longer holds up decisions")
        for name in sorted({found.name for found in registry.list_versions(client)}):
            yield from _safely(partial(_settle, name), f"repair {name}")
        for run_id in registry.end_all_killed_runs(client):
            yield Finding("ok", "repair", f"run {run_id} ended as KILLED; its process is gone")

    return list(_safely(settle, "repair")) or [Finding("ok", "repair", "nothing was left half done")]


def _settle(name: str) -> Iterator[Finding]:
    from softprompt_core import registry
    from softprompt_core.stages import record

    for entry in registry.repair(record.client(), record.stores(), name):
        version = f" version {entry.candidate}" if entry.candidate is not None else ""
        yield Finding("ok", "repair", f"{name}: {entry.action}{version} is {entry.status} now; {entry.reason}")


def _safely(check: Callable[[], Iterator[Finding]], what: str) -> Iterator[Finding]:
    try:
        yield from check()
    except SoftpromptError as error:
        yield Finding("problem", what, error.what, f"{error.where or ''} {error.do or ''}".strip())


def _versions() -> Iterator[Finding]:
    """Installed packages against what this package declares; pip resolves some of them into combinations that do not run."""
    from packaging.requirements import Requirement

    wrong = []
    for line in requires("softprompt-lifecycle") or ():
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            have = version(requirement.name)
        except PackageNotFoundError:
            have = "nothing"
        if have == "nothing" or not requirement.specifier.contains(have, prereleases=True):
            wrong.append(f"{requirement.name} {have} (needs {requirement.specifier})")
    if wrong:
        yield Finding(
            "problem", "versions", "; ".join(wrong), "install with the committed constraints: pip install -c constraints.txt -e ."
        )
    else:
        yield Finding("ok", "versions", f"prefect {version('prefect')}, mlflow {version('mlflow')}, torch {version('torch')}")


def _disk() -> Iterator[Finding]:
    place = home()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 1e9
    status: Literal["ok", "warning"] = "ok" if free >= _NEEDED_GB else "warning"
    yield Finding(
        status, "disk", f"{free:.1f} GB free at {home()}", "" if status == "ok" else "free some space, or set SOFTPROMPT_HOME"
    )


def _record() -> Iterator[Finding]:
    from softprompt_core import registry
    from softprompt_core.stages import record

    client = record.client()
    address = registry.masked(record.stores().tracking_uri)
    yield Finding("ok", "mlflow", f"{address}: {len({v.name for v in registry.list_versions(client)})} tasks registered")


def _ledger() -> Iterator[Finding]:
    from softprompt_core import registry
    from softprompt_core.stages import record

    odd = 0
    for name in sorted({found.name for found in registry.list_versions(record.client())}):
        for finding in _safely(partial(_unsettled, name), f"ledger of {name}"):
            odd += 1
            yield finding
    if not odd:
        yield Finding("ok", "ledger", "says what the aliases say")


def _unsettled(name: str) -> Iterator[Finding]:
    from softprompt_core import registry
    from softprompt_core.stages import record

    now = registry.standing(record.client(), name)
    do = "`softprompt doctor --repair` settles it, and so does the next decision"
    for entry in now.open:
        begun = f"{name}: {entry.action} version {entry.candidate} was begun at {entry.at:%Y-%m-%d %H:%M:%S} UTC"
        yield Finding("warning", "ledger", f"{begun} and not finished", f"if nobody is at work on it: {do}")
    if now.moved_by_hand:
        yield Finding("warning", "ledger", f"{name}: {now.moved_by_hand}", do)


def _prefect() -> Iterator[Finding]:
    from flows.environment import prepare_environment

    prepare_environment()
    address = settings.current().prefect_api_url
    yield Finding("ok", "prefect", address or f"a server of its own, started when needed, in {os.environ['PREFECT_HOME']}")


def _base() -> Iterator[Finding]:
    from softprompt_core.base_model import load_base
    from softprompt_core.spec import BaseModelSpec

    base = load_base(BaseModelSpec())
    yield Finding("ok", "bundled base", f"{base.identity.short}, {base.kind}, context {base.context}, on {base.device.type}")
