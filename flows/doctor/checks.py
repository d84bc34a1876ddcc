"""What may be wrong on this machine, and what to do about it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from flows.doctor import left_servers, orphans
from flows.doctor.findings import Finding, ok, problem, warning
from softprompt_core import settings
from softprompt_core.decisions.settle import settle
from softprompt_core.errors import SoftpromptError
from softprompt_core.masking import print_traceback
from softprompt_core.settings import home
from softprompt_core.store import failures, flushing, overview, registration, runs, versions
from softprompt_core.store.addresses import Addresses
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger import lock, reconcile, standing
from softprompt_core.store.versions import Version

_NEEDED_GB = 2.0


def examine() -> list[Finding]:
    """Run every check; one that fails does not stop the others."""
    findings = [
        *_safely("versions", _versions()),
        *_safely("disk", _disk()),
        *_safely("metrics", orphans.unsent_metrics()),
        *_safely("servers", left_servers.left_servers()),
        *_safely("base", _base()),
    ]
    store: Store | None = None
    try:
        store = Store.connect()
        findings += _mlflow(store)
    except Exception as error:
        findings.append(_problem("mlflow", error))
        store = None  # what cannot be asked need not be complained about once more for every question
    if store is not None:
        findings += _safely("ledger", _ledger(store))
        findings += _safely("files", _content(store))
        findings += _safely("runs", orphans.dead_runs(store))
        findings += _safely("registered", orphans.unfinished_versions(store))
    prefect = [*_safely("prefect", _prefect())]
    findings += prefect
    if store is not None and all(finding.status == "ok" for finding in prefect):
        findings += _safely("flow runs", orphans.lost_flow_runs(store))
    return findings


def repair() -> list[Finding]:
    """Complete or void what dead processes left in MLflow; note champions that were moved by hand. One finding a change."""
    ended = [
        _repaired(f"process {pid} ended; it was a Prefect server without its command") for pid in left_servers.end_left_servers()
    ]
    try:
        store = Store.connect()
    except SoftpromptError as error:
        return [*ended, _problem("repair", error)]
    # Before MLflow's runs are ended: they tell whose process is gone.
    findings = [*ended, *_safely("repair prefect", _crash_flow_runs(store)), *_safely("repair", _repair(store))]
    return findings or [_repaired("nothing was left half done")]


def _crash_flow_runs(store: Store) -> Iterator[Finding]:
    for name in orphans.crash_lost_flow_runs(store):
        yield _repaired(f"flow run {name} is Crashed now; its lifecycle is over")


def _repair(store: Store) -> Iterator[Finding]:
    for task in lock.clear_dead_tickets(store):
        yield _repaired(f"{task}: a dead process no longer holds up decisions")
    for name in _task_names(store):
        yield from _safely(f"repair {name}", _reconcile(store, name))
    for run_id, rows in flushing.flush_all(store).items():
        yield _repaired(f"run {run_id}: {rows} rows of metrics delivered")
    for run_id in runs.end_all_killed_runs(store):
        yield _repaired(f"run {run_id} ended as KILLED; its process is gone")
    for incomplete in registration.delete_incomplete_versions(store):
        yield _repaired(f"{incomplete.name} version {incomplete.version} deleted; its registration broke off")
    for left in reversed(versions.undecided(store)):  # the oldest first, as they would have been decided about
        if runs.has_ended(store, left.run_id):
            yield from _safely(f"repair {left.name}", _settle(store, left))


def _settle(store: Store, left: Version) -> Iterator[Finding]:
    yield _repaired(f"{left.name} version {left.version} {settle(store, left)}")


def _reconcile(store: Store, name: str) -> Iterator[Finding]:
    for entry in reconcile.repair(store, name):
        candidate = f" version {entry.candidate}" if entry.candidate is not None else ""
        yield _repaired(f"{name}: {entry.action}{candidate} is {entry.status} now; {entry.reason}")
    entries = reconcile.task_state(store, name).entries
    if any(standing.disagrees(registered, entries) for registered in versions.list_versions(store, name)):
        for registered in reconcile.refresh_descriptions(store, name):
            yield _repaired(f"{name} version {registered.version}: its description says how it stands now")


def _repaired(message: str) -> Finding:
    return ok("repair", message)


def _safely(what: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """The findings of a check, the last of them the problem that stopped it."""
    try:
        yield from findings
    except Exception as error:
        yield _problem(what, error)


def _problem(what: str, error: Exception) -> Finding:
    """What a user can do about an error; one that nobody foresaw is told with its traceback on stderr."""
    known = error if isinstance(error, SoftpromptError) else failures.unavailable(error, Addresses.from_settings())
    if known is None:
        print_traceback(error)
        return problem(what, f"{type(error).__name__}: {failures.in_brief(error)}", "report it, with the traceback on stderr")
    return problem(what, known.what, f"{known.where or ''} {known.do or ''}".strip())


def _versions() -> Iterator[Finding]:
    """Installed packages against what this package declares; pip resolves some of them into combinations that do not run."""
    from packaging.requirements import Requirement

    wrong = []
    for line in requires("softprompt-lifecycle") or ():
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            installed = "nothing"
        if installed == "nothing" or not requirement.specifier.contains(installed, prereleases=True):
            wrong.append(f"{requirement.name} {installed} (needs {requirement.specifier})")
    if wrong:
        do = "install with the committed constraints: pip install -c constraints.txt -e ."
        yield problem("versions", "; ".join(wrong), do)
    else:
        installed = ", ".join(f"{package} {version(package)}" for package in ("prefect", "mlflow", "torch"))
        yield ok("versions", installed)


def _disk() -> Iterator[Finding]:
    folder = home()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    message = f"{free:.1f} GB free at {home()}"
    if free >= _NEEDED_GB:
        yield ok("disk", message)
    else:
        yield warning("disk", message, "free some space, or set SOFTPROMPT_HOME")


def _mlflow(store: Store) -> Iterator[Finding]:
    message = f"{store.addresses.masked_tracking_uri}: {len(_task_names(store))} tasks registered"
    yield ok("mlflow", message)
    if (note := overview.foreign_note(overview.foreign_models(store))) is not None:
        yield ok("models", note)


def _ledger(store: Store) -> Iterator[Finding]:
    healthy = True
    for name in _task_names(store):
        for finding in _safely(f"ledger of {name}", _open_decisions(store, name)):
            healthy = False
            yield finding
    if healthy:
        yield ok("ledger", "says what the aliases say")


def _content(store: Store) -> Iterator[Finding]:
    """Whether the files of versions are those that were registered; behind a server only of versions that have an alias."""
    checked, healthy = 0, True
    for registered in versions.list_versions(store):
        if not registered.aliases and versions.local_folder(store, registered.name, registered.version) is None:
            continue
        checked += 1
        for finding in _damage(store, registered):
            healthy = False
            yield finding
    if healthy:
        yield ok("files", f"of {checked} versions are those that were registered")


def _damage(store: Store, registered: Version) -> Iterator[Finding]:
    damage = versions.content_problem(store, registered)
    if damage is None:
        return
    name = f"{registered.name} version {registered.version}"
    roles = f" ({', '.join(registered.aliases)})" if registered.aliases else ""
    do = "restore its files from a backup; " if registered.aliases else "restore its files from a backup, or prune it"
    if registered.aliases:
        do += f"until then `softprompt registry rollback {registered.name}`, or `registry promote --override` another version"
    yield problem("files", f"{name}{roles}: {damage}", do)


def _open_decisions(store: Store, name: str) -> Iterator[Finding]:
    state = reconcile.task_state(store, name)
    do = "`softprompt doctor --repair` settles it, and so does the next decision"
    for entry in state.open:
        begun = f"{name}: {entry.action} version {entry.candidate} was begun at {entry.at:%Y-%m-%d %H:%M:%S} UTC"
        message = f"{begun} and not finished"
        yield warning("ledger", message, f"if nobody is at work on it: {do}")
    if state.moved_by_hand:
        yield warning("ledger", f"{name}: {state.moved_by_hand}", do)
    for registered in versions.list_versions(store, name):
        said = standing.disagrees(registered, state.entries)
        if said is not None:
            is_now, _ = standing.standing(registered, state.entries)
            message = f"{name} version {registered.version}: its description says `{said}`, but it is `{is_now}`"
            yield warning("ledger", message, "`softprompt doctor --repair` writes it anew, and so does the task's next version")


def _task_names(store: Store) -> list[str]:
    return sorted({registered.name for registered in versions.list_versions(store)})


def _prefect() -> Iterator[Finding]:
    from flows.environment import prepare_environment

    prepare_environment()
    address = settings.current().prefect_api_url
    own_server = f"a server of its own, started when needed, in {os.environ['PREFECT_HOME']}"
    yield ok("prefect", address or own_server)


def _base() -> Iterator[Finding]:
    from softprompt_core.base_model.loading import load_base
    from softprompt_core.spec import BaseModelSpec

    base = load_base(BaseModelSpec())
    message = f"{base.identity.short}, {base.kind}, context {base.context}, on {base.device.type}"
    yield ok("bundled base", message)
