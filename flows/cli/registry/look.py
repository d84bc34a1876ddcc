"""Commands of ``softprompt registry`` that only read: list, show, history, pending."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import Json, Name

if TYPE_CHECKING:
    from softprompt_core.errors import InvalidInput
    from softprompt_core.store.connection import Store
    from softprompt_core.store.ledger.entries import Entry
    from softprompt_core.store.overview import HealthNote
    from softprompt_core.store.versions import Version


def list_(json: Json = False) -> None:
    """Every task with its champion and its newest version."""
    from flows.cli.output import print_json, print_table
    from softprompt_core.store import overview, versions
    from softprompt_core.store.connection import Store

    store = Store.connect()
    by_task: dict[str, list[Version]] = {}
    for version in versions.list_versions(store):
        by_task.setdefault(version.name, []).append(version)
    if (note := overview.foreign_note(overview.foreign_models(store))) is not None:
        print(f"! {note}", file=sys.stderr)
    health = overview.health_notes(store)
    tasks = [_task(store, name, by_task[name], health.get(name)) for name in sorted(by_task)]
    if json:
        print_json(tasks)
    elif not tasks:
        print("Nothing is registered yet; `softprompt run SPEC` registers a first version.")
    else:
        columns = [key for key in tasks[0] if key not in ("moved_by_hand", "newest_note")]
        for task in tasks:
            task["newest_outcome"] = ", ".join(filter(None, (task["newest_outcome"], task["newest_note"]))) or None
        print_table(columns, [[_cell(task[key]) for key in columns] for task in tasks])
        for task in tasks:
            if task["moved_by_hand"]:
                print(f"! {task['task']}: {task['moved_by_hand']}")


def show(
    name: Name,
    version: Annotated[int | None, typer.Option(help="Default: the champion, or else the newest version.")] = None,
    json: Json = False,
) -> None:
    """One version: outcome, aliases, lineage, description."""
    from flows.cli.output import print_json
    from softprompt_core.store import overview, versions
    from softprompt_core.store.connection import Store
    from softprompt_core.store.ledger import reconcile

    store = Store.connect()
    model = store.reader.model(name)
    note = overview.health_note(model.tags) if model is not None else None
    shown = versions.get(store, name, version) if version is not None else _champion_or_newest(store, name)
    facts: dict[str, Any] = dict(
        task=shown.name,
        version=shown.version,
        created=shown.created.isoformat(timespec="seconds"),
        aliases=list(shown.aliases),
        moved_by_hand=reconcile.task_state(store, name).moved_by_hand,
        health=f"{note.health} (version {note.version}, {note.at}): {note.reason}" if note is not None else None,
        run_id=shown.run_id,
        size_bytes=versions.version_size_bytes(store, name, shown.version),
        url=store.version_url(name, shown.version),
        tags=dict(sorted(shown.tags.items())),
        description=shown.description,
    )
    if json:
        print_json(facts)
        return
    tags, description, by_hand = (facts.pop(key) for key in ("tags", "description", "moved_by_hand"))
    lines = facts | {
        "aliases": ", ".join(facts["aliases"]),
        "health": facts["health"] or "not looked at yet (`softprompt monitor`)",
    }
    for key, value in lines.items():
        if key == "health" and by_hand:
            print(f"{'!':>22}  {by_hand}")
        print(f"{key:>22}  {value}")
    for tag, value in tags.items():
        print(f"{tag.removeprefix('softprompt.'):>22}  {value}")
    print(f"\n{description}")


def history(name: Name, json: Json = False) -> None:
    """The ledger of decisions: when, who, what, why."""
    from flows.cli.output import print_json
    from softprompt_core.store import versions
    from softprompt_core.store.connection import Store
    from softprompt_core.store.ledger import entries, reconcile

    store = Store.connect()
    ledger = entries.history(store, name)
    if not ledger and not versions.list_versions(store, name):
        raise _unknown(name)
    if json:
        print_json([_entry(store, entry) for entry in ledger])
        return
    for entry in ledger:
        print(_describe(entry))
    if not ledger:
        print(f"{name}: no decision has been made yet")
    if by_hand := reconcile.task_state(store, name).moved_by_hand:
        print(f"! {name}: {by_hand}")


def pending(
    name: Annotated[str | None, typer.Argument(help="One task only.", show_default=False)] = None, json: Json = False
) -> None:
    """Versions that wait for approval, the longest waiting first."""
    from datetime import UTC, datetime

    from flows.cli.output import print_json, print_table
    from softprompt_core.store.connection import Store
    from softprompt_core.store.ledger import approval

    store, now = Store.connect(), datetime.now(UTC)
    waiting: list[dict[str, Any]] = [
        dict(
            task=p.version.name,
            version=p.version.version,
            since=p.version.decided_at.isoformat(timespec="seconds"),
            age_days=round((now - p.version.decided_at).total_seconds() / 86_400, 1),
            expires=p.version.approval_expires.isoformat(timespec="seconds"),
            expired=p.version.approval_expired(),
            champion_moved=p.stale,
            why=p.reason,
            url=store.version_url(p.version.name, p.version.version),
        )
        for p in approval.pending(store, name)
    ]
    if json:
        print_json(waiting)
    elif not waiting:
        print("nothing waits for approval")
    else:
        rows = [
            (
                row["task"],
                str(row["version"]),
                f"{row['age_days']:.1f} days",
                row["expires"][:10],
                "expired" if row["expired"] else "gates will run again" if row["champion_moved"] else "",
                row["why"],
            )
            for row in waiting
        ]
        print_table(("task", "version", "waits", "until", "", "why"), rows)


def _task(store: Store, name: str, of_task: list[Version], health: HealthNote | None) -> dict[str, Any]:
    from softprompt_core.store import tags

    newest = max(of_task, key=lambda v: v.version)
    champion = next((v for v in of_task if tags.CHAMPION in v.aliases), None)
    note = "expired" if newest.approval_expired() else "rolled back" if tags.WITHDRAWN in newest.tags else None
    return dict(
        task=name,
        champion=champion.version if champion else None,
        champion_since=champion.tags.get(tags.DECIDED_AT) if champion else None,
        newest=newest.version,
        newest_outcome=newest.tags.get(tags.OUTCOME),
        newest_note=note,
        health=health.about(champion.version if champion else None) if health else None,
        base=newest.tags.get(tags.BASE_ID),
        moved_by_hand=_moved_by_hand(store, name),
    )


def _moved_by_hand(store: Store, name: str) -> str | None:
    """Whether the champion was moved by hand, in words; a ledger that cannot be read must not hide the other tasks."""
    from softprompt_core.errors import InvalidInput
    from softprompt_core.store.ledger import reconcile

    try:
        return reconcile.task_state(store, name).moved_by_hand
    except InvalidInput as error:
        return f"{error.where}: {error.what}"


def _entry(store: Store, entry: Entry) -> dict[str, Any]:
    return dict(
        when=entry.at.isoformat(timespec="seconds"),
        who=entry.by,
        action=entry.action,
        status=entry.status,
        version=entry.candidate,
        champion_before=entry.previous_champion,
        why=entry.reason,
        override=entry.override,
        deleted=list(entry.deleted),
        run_id=entry.evidence.run_id,
        run_url=_run_url(store, entry.evidence.run_id),
        report_sha256=entry.evidence.report,
    )


def _describe(entry: Entry) -> str:
    """One entry of the ledger in two lines: what was done, and why."""
    action = entry.action + (" (override)" if entry.override else "")
    about = f" version {entry.candidate}" if entry.candidate is not None else ""
    if entry.deleted:
        about = f" versions {', '.join(map(str, entry.deleted))}"
    before = f"champion before: version {entry.previous_champion}" if entry.previous_champion else "no champion before"
    status = {"completed": "", "superseded": "  NOTHING MOVED", "intent": "  NOT FINISHED"}[entry.status]
    run = f"  run {entry.evidence.run_id[:8]}" if entry.evidence.run_id else ""
    first = f"{entry.at:%Y-%m-%d %H:%M:%S}Z  {action}{about}  by {entry.by}  ({before}){run}{status}"
    return f"{first}\n    {entry.reason or 'no reason given'}"


def _run_url(store: Store, run_id: str) -> str | None:
    run = store.reader.run(run_id) if run_id else None
    return store.run_url(run.experiment_id, run_id) if run is not None else None  # somebody may have deleted it


def _champion_or_newest(store: Store, name: str) -> Version:
    from softprompt_core.store import tags, versions

    if champion := versions.by_alias(store, name, tags.CHAMPION):
        return champion
    registered = versions.list_versions(store, name)
    if not registered:
        raise _unknown(name)
    return max(registered, key=lambda v: v.version)


def _unknown(name: str) -> InvalidInput:
    from softprompt_core.errors import InvalidInput

    return InvalidInput("no version is registered under this name", where=name, do="`softprompt registry list` shows the tasks")


def _cell(value: Any) -> str:
    return "–" if value is None else str(value)
