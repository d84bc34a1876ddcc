"""``softprompt registry``: what is registered, and why. What changes it is in ``deciding``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli import deciding
from flows.cli.running import Json

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from softprompt_core.registry import Version

app = typer.Typer(no_args_is_help=True, help="Registered soft prompts: look at them, decide about them.", rich_markup_mode=None)
Name = deciding.Name


@app.command("list")
def list_(json: Json = False) -> None:
    """Every task with its champion and its newest version."""
    from flows.cli.output import print_json, print_table
    from softprompt_core import registry
    from softprompt_core.stages import record

    client = record.client()
    by_task: dict[str, list[Version]] = {}
    health = registry.health_notes(client)
    for version in registry.list_versions(client):
        by_task.setdefault(version.name, []).append(version)
    found: list[dict[str, Any]] = []
    for name, versions in sorted(by_task.items()):
        newest = max(versions, key=lambda v: v.version)
        champion = next((v for v in versions if registry.tags.CHAMPION in v.aliases), None)
        found.append(
            dict(
                task=name,
                champion=champion.version if champion else None,
                champion_since=champion.tags.get(registry.tags.DECIDED_AT) if champion else None,
                newest=newest.version,
                newest_outcome=newest.tags.get(registry.tags.OUTCOME),
                newest_note=_note(newest),
                health=health[name].about(champion.version if champion else None) if name in health else None,
                base=newest.tags.get(registry.tags.BASE_ID),
                moved_by_hand=_by_hand(client, name),
            )
        )
    if json:
        print_json(found)
    elif not found:
        print("Nothing is registered yet; `softprompt run SPEC` registers a first version.")
    else:
        shown = [key for key in found[0] if key not in ("moved_by_hand", "newest_note")]
        for row in found:
            row["newest_outcome"] = ", ".join(filter(None, (row["newest_outcome"], row["newest_note"]))) or None
        print_table(shown, [[_cell(row[key]) for key in shown] for row in found])
        for row in found:
            if row["moved_by_hand"]:
                print(f"! {row['task']}: {row['moved_by_hand']}")


@app.command()
def show(
    name: Name,
    version: Annotated[int | None, typer.Option(help="Default: the champion, or else the newest version.")] = None,
    json: Json = False,
) -> None:
    """One version: outcome, aliases, lineage, description."""
    from flows.cli.output import print_json
    from softprompt_core import registry
    from softprompt_core.stages import record

    client = record.client()
    model = registry.registered_model(client, name)
    note = registry.health_note(model.tags) if model is not None else None
    if version is not None:
        found = registry.get(client, name, version)
    else:
        found = registry.by_alias(client, name, registry.tags.CHAMPION) or _newest(registry.list_versions(client, name), name)
    facts: dict[str, Any] = dict(
        task=found.name,
        version=found.version,
        created=found.created.isoformat(timespec="seconds"),
        aliases=list(found.aliases),
        moved_by_hand=registry.standing(client, name).moved_by_hand,
        health=f"{note.health} (version {note.version}, {note.at}): {note.reason}" if note is not None else None,
        run_id=found.run_id,
        size_bytes=registry.version_size_bytes(client, name, found.version),
        url=record.version_url(name, found.version),
        tags=dict(sorted(found.tags.items())),
        description=found.description,
    )
    if json:
        print_json(facts)
        return
    for key, value in facts.items():
        if key == "tags":
            for tag, text in value.items():
                print(f"{tag.removeprefix('softprompt.'):>22}  {text}")
        elif key == "description":
            print(f"\n{value}")
        elif key == "moved_by_hand":
            if value:
                print(f"{'!':>22}  {value}")
        elif key == "health":
            print(f"{key:>22}  {value or 'not looked at yet (`softprompt monitor`)'}")
        else:
            print(f"{key:>22}  {', '.join(value) if isinstance(value, list) else value}")


@app.command()
def history(name: Name, json: Json = False) -> None:
    """The ledger of decisions: when, who, what, why."""
    from flows.cli.output import print_json
    from softprompt_core import registry
    from softprompt_core.stages import record

    client = record.client()
    entries = registry.history(client, name)
    if not entries and not registry.list_versions(client, name):
        raise _unknown(name)
    rows: list[dict[str, Any]] = [
        dict(
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
            run_url=_run_url(client, entry.evidence.run_id) if json else None,
            report_sha256=entry.evidence.report,
        )
        for entry in entries
    ]
    if json:
        print_json(rows)
    elif not rows:
        print(f"{name}: no decision has been made yet")
    else:
        for row in rows:
            print(_told(row))
    by_hand = registry.standing(client, name).moved_by_hand
    if by_hand and not json:
        print(f"! {name}: {by_hand}")


@app.command()
def pending(
    name: Annotated[str | None, typer.Argument(help="One task only.", show_default=False)] = None, json: Json = False
) -> None:
    """Versions that wait for approval, the longest waiting first."""
    from datetime import UTC, datetime

    from flows.cli.output import print_json, print_table
    from softprompt_core import registry
    from softprompt_core.stages import record

    client, now = record.client(), datetime.now(UTC)
    rows: list[dict[str, Any]] = [
        dict(
            task=p.version.name,
            version=p.version.version,
            since=p.version.decided_at.isoformat(timespec="seconds"),
            age_days=round((now - p.version.decided_at).total_seconds() / 86_400, 1),
            expires=p.version.approval_expires.isoformat(timespec="seconds"),
            expired=p.version.approval_expired(),
            champion_moved=p.stale,
            why=p.reason,
            url=record.version_url(p.version.name, p.version.version),
        )
        for p in registry.pending(client, name)
    ]
    if json:
        print_json(rows)
    elif not rows:
        print("nothing waits for approval")
    else:
        print_table(
            ("task", "version", "waits", "until", "", "why"),
            [
                (
                    row["task"],
                    str(row["version"]),
                    f"{row['age_days']:.1f} days",
                    row["expires"][:10],
                    "expired" if row["expired"] else "gates will run again" if row["champion_moved"] else "",
                    row["why"],
                )
                for row in rows
            ],
        )


for _command in (deciding.approve, deciding.reject, deciding.promote, deciding.rollback, deciding.prune):
    app.command()(_command)


def _note(version: Version) -> str | None:
    from softprompt_core.registry import tags

    return "expired" if version.approval_expired() else "rolled back" if tags.WITHDRAWN in version.tags else None


def _by_hand(client: MlflowClient, name: str) -> str | None:
    """Whether the champion was moved by hand, in words; a ledger that cannot be read must not hide the other tasks."""
    from softprompt_core import registry
    from softprompt_core.errors import InvalidInput

    try:
        return registry.standing(client, name).moved_by_hand
    except InvalidInput as error:
        return f"{error.where}: {error.what}"


def _told(row: dict[str, Any]) -> str:
    """One entry of the ledger in two lines: what was done, and why."""
    action = row["action"] + (" (override)" if row["override"] else "")
    about = f" version {row['version']}" if row["version"] is not None else ""
    if row["deleted"]:
        about = f" versions {', '.join(map(str, row['deleted']))}"
    before = f"champion before: version {row['champion_before']}" if row["champion_before"] else "no champion before"
    status = {"completed": "", "superseded": "  NOTHING MOVED", "intent": "  NOT FINISHED"}[row["status"]]
    run = f"  run {row['run_id'][:8]}" if row["run_id"] else ""
    when = row["when"].replace("+00:00", "Z").replace("T", " ")
    return f"{when}  {action}{about}  by {row['who']}  ({before}){run}{status}\n    {row['why'] or 'no reason given'}"


def _run_url(client: MlflowClient, run_id: str) -> str | None:
    from mlflow.exceptions import MlflowException

    from softprompt_core.stages import record

    try:
        return record.run_url(client.get_run(run_id).info.experiment_id, run_id) if run_id else None
    except MlflowException:  # somebody deleted the run for good
        return None


def _newest(versions: list[Version], name: str) -> Version:
    if not versions:
        raise _unknown(name)
    return max(versions, key=lambda v: v.version)


def _unknown(name: str) -> Exception:
    from softprompt_core.errors import InvalidInput

    return InvalidInput("no version is registered under this name", where=name, do="`softprompt registry list` shows the tasks")


def _cell(value: Any) -> str:
    return "–" if value is None else str(value)
