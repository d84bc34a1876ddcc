"""What may be wrong on this machine, and what to do about it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any, Literal

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
    checks = (_versions, _disk, _record, _prefect, _base)
    return [finding for check in checks for finding in _safely(check)]


def _safely(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except SoftpromptError as error:
        yield Finding("problem", check.__name__.strip("_"), error.what, f"{error.where or ''} {error.do or ''}".strip())


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


def _prefect() -> Iterator[Finding]:
    from flows.environment import prepare_environment

    prepare_environment()
    address = os.environ.get("PREFECT_API_URL")
    yield Finding("ok", "prefect", address or f"a server of its own, started when needed, in {os.environ['PREFECT_HOME']}")


def _base() -> Iterator[Finding]:
    from softprompt_core.base_model import load_base
    from softprompt_core.spec import BaseModelSpec

    base = load_base(BaseModelSpec())
    yield Finding("ok", "bundled base", f"{base.identity.short}, {base.kind}, context {base.context}, on {base.device.type}")
