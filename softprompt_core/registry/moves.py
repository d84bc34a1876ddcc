"""What a ledger entry does to aliases and tags, step by step. A process may die before any step; ``recovery`` goes on from there.

For the champion: 1. entry ``intent`` (by the caller)  2. alias ``champion``  3. alias ``previous``  4. read back
5. alias ``challenger``  6. version tags  7. entry ``completed``. As long as step 2 has not been done nothing has been moved, and
all that follows can be repeated, so a broken decision is either taken for void or completed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from softprompt_core.errors import InvalidInput, Outcome, SoftpromptError
from softprompt_core.registry.ledger import Entry, champion_before, write
from softprompt_core.registry.tags import CHALLENGER, CHAMPION, DECIDED_AT, OUTCOME, PREVIOUS, WITHDRAWN, shortened
from softprompt_core.registry.turns import Turn
from softprompt_core.registry.versions import aliases, get

if TYPE_CHECKING:
    from mlflow import MlflowClient

_REASON_LIMIT = 500


class ChampionMoved(SoftpromptError):
    """The champion is not the one that the gates compared with; nothing was moved. Compare again with the new one."""

    outcome = Outcome.REJECTED


def move_champion(client: MlflowClient, held: Turn, name: str, entry: Entry, entries: Sequence[Entry]) -> None:
    """Make the entry's candidate champion, and do all that follows.

    Raises:
        ChampionMoved: somebody moved the alias by hand in the same moment; the entry says ``superseded``.
    """
    held.confirm("alias champion")
    client.set_registered_model_alias(name, CHAMPION, str(entry.candidate))
    finish_move(client, held, name, entry, entries)


def finish_move(client: MlflowClient, held: Turn, name: str, entry: Entry, entries: Sequence[Entry]) -> None:
    """What follows once the alias ``champion`` points at the candidate. Safe to repeat. Raises ChampionMoved as above."""
    new = entry.candidate
    assert new is not None
    back = entry.action == "rollback"
    _point_previous(client, held, name, champion_before(entries, new) if back else entry.previous_champion)
    stands = aliases(client, name)
    if stands.get(CHAMPION) != new:
        raise superseded(client, held, name, entry, stands.get(CHAMPION), new)
    if stands.get(CHALLENGER) == new:
        held.confirm("alias challenger")
        client.delete_registered_model_alias(name, CHALLENGER)
    held.confirm("version tags")
    if back:
        _withdraw(client, name, entry)
    _mark(client, name, new, Outcome.PROMOTED)
    complete(client, held, name, entry)


def move_challenger(client: MlflowClient, held: Turn, name: str, entry: Entry) -> None:
    """What turning down a candidate, or letting it wait, does. Safe to repeat."""
    assert entry.candidate is not None
    held.confirm("alias challenger")
    client.set_registered_model_alias(name, CHALLENGER, str(entry.candidate))
    held.confirm("version tags")
    _mark(client, name, entry.candidate, Outcome.REJECTED if entry.action == "reject" else Outcome.AWAITING_APPROVAL)
    complete(client, held, name, entry)


def complete(client: MlflowClient, held: Turn, name: str, entry: Entry) -> None:
    held.confirm("entry completed")
    write(client, name, replace(entry, status="completed"))


def superseded(
    client: MlflowClient, held: Turn, name: str, entry: Entry, found: int | None, expected: int | None
) -> ChampionMoved:
    """Write that nothing was moved; returns the error that says why."""

    def named(version: int | None) -> str:
        return "no version" if version is None else f"version {version}"

    why = f"the champion is {named(found)}, not {named(expected)}"
    void(client, held, name, entry, why)
    return ChampionMoved(
        f"{why}; nothing was decided about version {entry.candidate}",
        where=name,
        do="run the task again: the gates then compare with the champion that stands now",
    )


def void(client: MlflowClient, held: Turn, name: str, entry: Entry, why: str) -> None:
    """Close an entry that moved nothing; ``why`` is put before its reason."""
    held.confirm("entry superseded")
    write(client, name, replace(entry, status="superseded", reason=f"{why}. {entry.reason}".rstrip()))


def exists(client: MlflowClient, name: str, version: int) -> bool:
    """Whether a version is there and finished."""
    try:
        get(client, name, version)
    except InvalidInput:
        return False
    return True


def _point_previous(client: MlflowClient, held: Turn, name: str, version: int | None) -> None:
    held.confirm("alias previous")
    if version is not None and exists(client, name, version):
        client.set_registered_model_alias(name, PREVIOUS, str(version))
    else:
        client.delete_registered_model_alias(name, PREVIOUS)


def _withdraw(client: MlflowClient, name: str, entry: Entry) -> None:
    left = entry.previous_champion
    if left is not None and exists(client, name, left):
        words = f"rolled back on {entry.at:%Y-%m-%d %H:%M} UTC by {entry.by}: {shortened(entry.reason, _REASON_LIMIT)}"
        client.set_model_version_tag(name, str(left), WITHDRAWN, words)


def _mark(client: MlflowClient, name: str, version: int, outcome: Outcome) -> None:
    tags = get(client, name, version).tags
    if outcome is Outcome.PROMOTED and WITHDRAWN in tags:
        client.delete_model_version_tag(name, str(version), WITHDRAWN)
    client.set_model_version_tag(name, str(version), DECIDED_AT, datetime.now(UTC).isoformat(timespec="seconds"))
    client.set_model_version_tag(name, str(version), OUTCOME, outcome.value)
