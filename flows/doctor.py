"""What may be wrong on this machine, and what to do about it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal

from flows.aftermath import crash_lost_flow_runs, died, lost_flow_runs, spooled, unfinished
from flows.findings import Finding
from softprompt_core import settings
from softprompt_core.errors import SoftpromptError
from softprompt_core.stages.workspace import home

_NEEDED_GB = 2.0
_NAMES = {"_record": "mlflow", "spooled": "metrics", "died": "runs", "unfinished": "registered", "lost_flow_runs": "flow runs"}


def examine() -> list[Finding]:
    """Run every check; a check that fails does not stop the others."""
    found = [*_all(_versions, _disk, spooled, _base)]
    for server, checks in ((_record, (_ledger, died, unfinished)), (_prefect, (lost_flow_runs,))):
        answer = [*_all(server)]
        # What cannot be asked need not be complained about once more for every question.
        found += answer if any(one.status == "problem" for one in answer) else [*answer, *_all(*checks)]
    return found


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
        for run_id, rows in registry.deliver_all(client, record.stores()).items():
            yield Finding("ok", "repair", f"run {run_id}: {rows} rows of metrics delivered")
        for run_id in registry.end_all_killed_runs(client):
            yield Finding("ok", "repair", f"run {run_id} ended as KILLED; its process is gone")
        for half in registry.discard_half_made(client):
            yield Finding("ok", "repair", f"{half.name} version {half.version} deleted; its registration broke off")

    def close_flow_runs() -> Iterator[Finding]:
        for name in crash_lost_flow_runs():
            yield Finding("ok", "repair", f"flow run {name} is Crashed now; its lifecycle is over")

    # Before MLflow's runs are ended: they tell whose process is gone.
    found = [*_safely(close_flow_runs, "repair prefect"), *_safely(settle, "repair")]
    return found or [Finding("ok", "repair", "nothing was left half done")]


def _settle(name: str) -> Iterator[Finding]:
    from softprompt_core import registry
    from softprompt_core.stages import record

    for entry in registry.repair(record.client(), record.stores(), name):
        version = f" version {entry.candidate}" if entry.candidate is not None else ""
        yield Finding("ok", "repair", f"{name}: {entry.action}{version} is {entry.status} now; {entry.reason}")


def _all(*checks: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    for check in checks:
        yield from _safely(check, _NAMES.get(check.__name__, check.__name__.strip("_").replace("_", " ")))


def _safely(check: Callable[[], Iterator[Finding]], what: str) -> Iterator[Finding]:
    from softprompt_core import registry
    from softprompt_core.stages import record

    try:
        yield from check()
    except Exception as error:
        known = error if isinstance(error, SoftpromptError) else registry.unavailable(error, record.stores())
        if known is None:
            raise
        yield Finding("problem", what, known.what, f"{known.where or ''} {known.do or ''}".strip())


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
