"""Commands of ``softprompt registry`` by which a person decides: approve, reject, promote, roll back, prune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import By, Json, Name, Reason

if TYPE_CHECKING:
    from softprompt_core.decisions.review import Verb

Version = Annotated[int, typer.Argument(help="The version's number.", show_default=False)]


def approve(name: Name, version: Version, by: By, reason: Reason, json: Json = False) -> None:
    """Promote a version that awaits approval. Exits 20 if its gates had to run again and failed.

    If the champion has moved since the gates ran, they run again against the new one, on the same test rows.
    """
    _review(name, version, "approve", by, reason, json)


def reject(name: Name, version: Version, by: By, reason: Reason, json: Json = False) -> None:
    """Turn down a version that awaits approval; the champion stays."""
    _review(name, version, "reject", by, reason, json)


def promote(
    name: Name,
    version: Version,
    by: By,
    reason: Reason,
    override: Annotated[bool, typer.Option("--override", help="Promote even if the gates said no; recorded as such.")] = False,
    json: Json = False,
) -> None:
    """Make a version champion that was decided about before; the gates compare it with the champion first.

    Refuses a version that was rejected, unless --override is given. Exits 20 if the gates say no now.
    """
    _review(name, version, "promote", by, reason, json, override)


def rollback(
    name: Name,
    by: By,
    reason: Reason,
    to: Annotated[int | None, typer.Option(help="A version that was champion. Default: the one before the present.")] = None,
    other_base: Annotated[bool, typer.Option("--other-base", help="Even to a version trained for another base.")] = False,
    json: Json = False,
) -> None:
    """Make the champion before champion again. Needs neither data nor base model, and trains nothing."""
    from flows.cli.output import print_json
    from softprompt_core.store.connection import Store
    from softprompt_core.store.ledger import recording

    store = Store.connect()
    entry = recording.rollback(store, name=name, by=by, reason=reason, to=to, other_base=other_base)
    if json:
        print_json(dict(task=name, champion=entry.candidate, champion_before=entry.previous_champion, by=entry.by))
        return
    before = f"version {entry.previous_champion}" if entry.previous_champion else "no version"
    print(f"{name}: champion is version {entry.candidate}, it was {before}")
    print("rolled back")


def prune(
    name: Name,
    keep: Annotated[int, typer.Option(help="How many of the newest versions stay in any case.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it the versions are only listed.")] = False,
    by: Annotated[str, typer.Option(help="Who decides; needed with --yes.")] = "",
    reason: Annotated[str, typer.Option(help="Why; needed with --yes.")] = "",
    json: Json = False,
) -> None:
    """List old versions that could go, and with --yes delete them.

    Never: a version with an alias (champion, previous, challenger, …), one that awaits approval, one that is not decided yet.
    """
    from flows.cli.output import print_json, print_table
    from softprompt_core.store import tags
    from softprompt_core.store.connection import Store
    from softprompt_core.store.ledger import pruning

    store = Store.connect()
    candidates = pruning.prunable(store, name, keep)
    deleted = pruning.prune(store, name=name, keep=keep, by=by, reason=reason) if yes else []
    if json:
        print_json(dict(task=name, would_delete=[v.version for v in candidates] if not yes else [], deleted=deleted))
        return
    shown = [v for v in candidates if not yes or v.version in deleted]
    if not shown:
        print(f"{name}: nothing to delete")
        return
    rows = [(str(v.version), f"{v.created:%Y-%m-%d}", v.tags.get(tags.OUTCOME, "–")) for v in shown]
    print_table(("version", "created", "outcome"), rows)
    print(f"{name}: deleted {len(shown)}" if yes else f"{name}: would delete {len(shown)}; --yes deletes")


def _review(name: str, version: int, verb: Verb, by: str, reason: str, json: bool, override: bool = False) -> None:
    from flows.cli.output import print_json
    from softprompt_core.decisions.review import review
    from softprompt_core.errors import Outcome
    from softprompt_core.store.connection import Store

    result = review(Store.connect(), name, version, verb, by=by, reason=reason, override=override)
    refused = verb != "reject" and result.outcome is Outcome.REJECTED
    code = result.outcome.exit_code if refused else 0
    if json:
        print_json({**result.model_dump(mode="json"), "exit_code": code})
    else:
        print(f"{name} version {version}: {result.reason}")
        if result.gates:
            print("\n".join(result.gates))
        print(result.outcome.value)
    raise typer.Exit(code)
