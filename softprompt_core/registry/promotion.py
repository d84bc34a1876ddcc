"""Record a decision: first the ledger entry, then the alias, and only if the champion is still the one that the gates saw.

MLflow moves aliases without compare-and-set, so a lock (per task and store) keeps the processes that share a home apart, and the
champion is read under it. Under the lock a decision goes through these steps; a process may die after each:

1. entry ``intent``  2. alias ``previous``  3. alias ``champion``  4. read back  5. version tags  6. entry ``completed``

Whoever decides next finds an entry that is still ``intent`` and settles it by what the alias says.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from softprompt_core.errors import InvalidInput, Outcome, SoftpromptError
from softprompt_core.registry.ledger import Action, Entry, Evidence, history, new_key, write
from softprompt_core.registry.stores import Stores, locked
from softprompt_core.registry.tags import CHALLENGER, CHAMPION, DECIDED_AT, OUTCOME, PREVIOUS
from softprompt_core.registry.versions import aliases, get

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ACTIONS: dict[Outcome, Action] = {Outcome.PROMOTED: "promote", Outcome.REJECTED: "reject", Outcome.AWAITING_APPROVAL: "await"}


class ChampionMoved(SoftpromptError):
    """The champion is not the one that the gates compared with; nothing was moved. Compare again with the new one."""

    outcome = Outcome.REJECTED


def record_decision(
    client: MlflowClient,
    stores: Stores,
    *,
    name: str,
    version: int,
    expected_champion: int | None,
    outcome: Outcome,
    by: str,
    reason: str,
    evidence: Evidence,
) -> Outcome:
    """Write a decision about ``version`` down and act on it; returns ``outcome``.

    Promoted: ``champion`` moves to the version and ``previous`` to the old champion. Rejected or awaiting approval:
    ``challenger`` moves to the version, the champion stays. Recording a finished promotion again changes nothing.

    Args:
        expected_champion: the version that the gates compared with; None if there was no champion.
        by: who decided: a person, or the flow.

    Raises:
        ChampionMoved: to be promoted, but the champion is another one by now; the entry says ``superseded``.
        InvalidInput: no such finished version, or nobody's name.
        ValueError: ``outcome`` is not a decision.
    """
    if outcome not in _ACTIONS:
        raise ValueError(f"{outcome} is not a decision about a version")
    if not by.strip():
        raise InvalidInput("a decision needs the name of who decided", where=name, do="name a person, or the flow")
    candidate = get(client, name, version)
    with locked(stores, f"decision {name}"):
        champion = aliases(client, name).get(CHAMPION)
        entries = _settled(client, name, champion)
        entry = Entry(new_key(), _ACTIONS[outcome], "intent", by.strip(), reason, version, champion, evidence)
        if outcome is Outcome.PROMOTED:
            if champion == version and _promoted(entries) == version:
                # A retry after the alias had moved; the version's own tags may still be missing.
                if candidate.tags.get(OUTCOME) != outcome.value:
                    _mark(client, name, version, outcome)
                return outcome
            if champion != expected_champion:
                raise _superseded(client, name, entry, champion, expected_champion)
        write(client, name, entry)
        if outcome is Outcome.PROMOTED:
            _move_champion(client, name, entry)
        else:
            client.set_registered_model_alias(name, CHALLENGER, str(version))
        _mark(client, name, version, outcome)
        write(client, name, replace(entry, status="completed"))
    return outcome


def _move_champion(client: MlflowClient, name: str, entry: Entry) -> None:
    old, new = entry.previous_champion, entry.candidate
    if old is not None and old != new:
        client.set_registered_model_alias(name, PREVIOUS, str(old))
    client.set_registered_model_alias(name, CHAMPION, str(new))
    stands = aliases(client, name)
    if stands.get(CHAMPION) != new:
        raise _superseded(client, name, entry, stands.get(CHAMPION), new)
    if stands.get(CHALLENGER) == new:
        client.delete_registered_model_alias(name, CHALLENGER)


def _settled(client: MlflowClient, name: str, champion: int | None) -> list[Entry]:
    """The ledger. What a dead process left as ``intent`` is closed: completed if the alias had moved, else superseded."""
    entries = history(client, name)
    for index, entry in enumerate(entries):
        if entry.status == "intent":
            moved = entry.action == "promote" and entry.candidate == champion
            entries[index] = replace(entry, status="completed" if moved else "superseded")
            write(client, name, entries[index])
    return entries


def _promoted(entries: list[Entry]) -> int | None:
    """The version that is champion according to the ledger."""
    return next((e.candidate for e in reversed(entries) if e.action == "promote" and e.status == "completed"), None)


def _superseded(client: MlflowClient, name: str, entry: Entry, found: int | None, expected: int | None) -> ChampionMoved:
    write(client, name, replace(entry, status="superseded"))

    def named(version: int | None) -> str:
        return "no version" if version is None else f"version {version}"

    return ChampionMoved(
        f"the champion is {named(found)}, not {named(expected)}; version {entry.candidate} was not promoted",
        where=name,
        do="run the task again: the gates then compare with the champion that stands now",
    )


def _mark(client: MlflowClient, name: str, version: int, outcome: Outcome) -> None:
    client.set_model_version_tag(name, str(version), DECIDED_AT, datetime.now(UTC).isoformat(timespec="seconds"))
    client.set_model_version_tag(name, str(version), OUTCOME, outcome.value)
