"""``softprompt registry``: what is registered, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.running import Json

if TYPE_CHECKING:
    from softprompt_core.registry import Version

app = typer.Typer(no_args_is_help=True, help="Registered soft prompts: list, show, history.", rich_markup_mode=None)
Name = Annotated[str, typer.Argument(help="The task's name.", show_default=False)]


@app.command("list")
def list_(json: Json = False) -> None:
    """Every task with its champion and its newest version."""
    from flows.cli.output import print_json, print_table
    from softprompt_core import registry
    from softprompt_core.stages import record

    by_task: dict[str, list[Version]] = {}
    for version in registry.list_versions(record.client()):
        by_task.setdefault(version.name, []).append(version)
    found = []
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
                base=newest.tags.get(registry.tags.BASE_ID),
            )
        )
    if json:
        print_json(found)
    elif not found:
        print("Nothing is registered yet; `softprompt run SPEC` registers a first version.")
    else:
        print_table(list(found[0]), [[_cell(v) for v in row.values()] for row in found])


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
    if version is not None:
        found = registry.get(client, name, version)
    else:
        found = registry.by_alias(client, name, registry.tags.CHAMPION) or _newest(registry.list_versions(client, name), name)
    facts: dict[str, Any] = dict(
        task=found.name,
        version=found.version,
        created=found.created.isoformat(timespec="seconds"),
        aliases=list(found.aliases),
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
        else:
            print(f"{key:>22}  {', '.join(value) if isinstance(value, list) else value}")


@app.command()
def history(name: Name, json: Json = False) -> None:
    """The ledger of decisions: when, who, what, why."""
    from flows.cli.output import print_json, print_table
    from softprompt_core import registry
    from softprompt_core.stages import record

    client = record.client()
    entries = registry.history(client, name)
    if not entries and not registry.list_versions(client, name):
        raise _unknown(name)
    rows = [
        dict(
            when=entry.at.isoformat(timespec="seconds"),
            who=entry.by,
            action=entry.action,
            status=entry.status,
            version=entry.candidate,
            champion_before=entry.previous_champion,
            why=entry.reason,
            run_id=entry.evidence.run_id,
        )
        for entry in entries
    ]
    if json:
        print_json(rows)
    elif not rows:
        print(f"{name}: no decision has been made yet")
    else:
        shown = [key for key in rows[0] if key != "run_id"]
        print_table(shown, [[_cell(row[key]) for key in shown] for row in rows])


def _newest(versions: list[Version], name: str) -> Version:
    if not versions:
        raise _unknown(name)
    return max(versions, key=lambda v: v.version)


def _unknown(name: str) -> Exception:
    from softprompt_core.errors import InvalidInput

    return InvalidInput("no version is registered under this name", where=name, do="`softprompt registry list` shows the tasks")


def _cell(value: Any) -> str:
    return "–" if value is None else str(value)
