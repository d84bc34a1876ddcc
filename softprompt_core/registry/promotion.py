"""Record a decision: first the ledger entry, then the alias, and only if the champion is still the one that was compared with."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from softprompt_core.errors import InvalidInput, Outcome
from softprompt_core.registry.ledger import MOVES, Action, Entry, Evidence, champion_before, last_move, new_key, write
from softprompt_core.registry.moves import exists, move_challenger, move_champion, superseded
from softprompt_core.registry.recovery import settled
from softprompt_core.registry.stores import Stores
from softprompt_core.registry.tags import APPROVAL_EXPIRES, BASE_FINGERPRINT, OUTCOME
from softprompt_core.registry.turns import turn
from softprompt_core.registry.versions import Version, get

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ACTIONS: dict[Outcome, Action] = {Outcome.PROMOTED: "promote", Outcome.REJECTED: "reject", Outcome.AWAITING_APPROVAL: "await"}


class DecidedMeanwhile(InvalidInput):
    """Somebody else has decided about the version since it was looked at; nothing was changed."""


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
    approves: bool = False,
    override: bool = False,
    only_if: str | None = None,
    approval_expires: datetime | None = None,
) -> Outcome:
    """Write a decision about ``version`` down and act on it; returns ``outcome``.

    Promoted: ``champion`` moves to the version and ``previous`` to the old champion. Rejected or awaiting approval:
    ``challenger`` moves to the version, the champion stays. Recording a finished promotion again changes nothing.

    Args:
        expected_champion: the version that the gates compared with; None if there was no champion.
        by: who decided: a person, or the flow.
        approves: the promotion is a person's answer to ``awaiting_approval``.
        override: a person promotes although the gates said no.
        only_if: the outcome that the version must have until now.
        approval_expires: until when a version that awaits approval may be approved, UTC.

    Raises:
        ChampionMoved: the champion is another one by now; the entry says ``superseded`` and nothing else was changed.
        DecidedMeanwhile: the version's outcome is not ``only_if`` any more.
        InvalidInput: no such finished version, nobody's name, or the champion itself is to be turned down.
        Unavailable: somebody else has been deciding for minutes, or took this process for dead.
        ValueError: ``outcome`` is not a decision.
    """
    if outcome not in _ACTIONS:
        raise ValueError(f"{outcome} is not a decision about a version")
    action: Action = "approve" if approves and outcome is Outcome.PROMOTED else _ACTIONS[outcome]
    by = named(by, name)
    get(client, name, version)
    with turn(client, stores, name) as held:
        now = settled(client, held, name)
        candidate = get(client, name, version)
        entry = Entry(
            new_key(now.entries), action, "intent", by, reason, version, now.champion, evidence, override and action == "promote"
        )
        last = last_move(now.entries)
        if outcome is Outcome.PROMOTED and now.champion == version and last is not None and last.action != "moved by hand":
            return outcome  # a retry after all was done; what was missing has just been settled
        if now.entries and _says(now.entries[-1], action, version, evidence):
            return outcome  # likewise
        _check_outcome(candidate, only_if)
        if now.champion != expected_champion:
            raise superseded(client, held, name, entry, now.champion, expected_champion)
        if outcome is not Outcome.PROMOTED and now.champion == version:
            raise InvalidInput(
                "is the champion and cannot be turned down",
                where=f"{name} version {version}",
                do="`softprompt registry rollback` makes the champion before it champion again",
            )
        if outcome is Outcome.AWAITING_APPROVAL and approval_expires is not None:
            held.confirm("approval expires")
            client.set_model_version_tag(name, str(version), APPROVAL_EXPIRES, approval_expires.isoformat(timespec="seconds"))
        held.confirm("entry intent")
        write(client, name, entry)
        if outcome is Outcome.PROMOTED:
            move_champion(client, held, name, entry, now.entries)
        else:
            move_challenger(client, held, name, entry)
    return outcome


def rollback(
    client: MlflowClient,
    stores: Stores,
    *,
    name: str,
    by: str,
    reason: str,
    to: int | None = None,
    other_base: bool = False,
) -> Entry:
    """Make an earlier champion champion again; returns the ledger entry.

    ``previous`` then points at the champion before that one, so that a second rollback goes one further back.

    Args:
        to: a version that was champion before; None takes the one before the present champion.
        other_base: go back even to a version that was trained for another base than the champion's.

    Raises:
        InvalidInput: nobody's name or no reason; nothing to go back to; the version is gone, never was champion, is champion now,
            or belongs to another base.
        ChampionMoved, Unavailable: as for ``record_decision``.
    """
    by, reason = named(by, name), explained(reason, name)
    with turn(client, stores, name) as held:
        now = settled(client, held, name)
        target = to if to is not None else champion_before(now.entries, now.champion)
        where = name if target is None else f"{name} version {target}"
        if target is None:
            raise InvalidInput("there is no earlier champion to go back to", where=name, do="see `softprompt registry history`")
        if target == now.champion:
            raise InvalidInput("is the champion already", where=where, do="name another version with --to")
        if not exists(client, name, target):
            raise InvalidInput("does not exist any more", where=where, do="name another version with --to")
        if not any(
            target in (e.candidate, e.previous_champion) for e in now.entries if e.status == "completed" and e.action in MOVES
        ):
            raise InvalidInput("was never champion", where=where, do="`softprompt registry promote` lets the gates see it first")
        found = get(client, name, target)
        if now.champion is not None and not other_base and exists(client, name, now.champion):
            _check_base(found, get(client, name, now.champion))
        evidence = Evidence(found.run_id, "")
        entry = Entry(new_key(now.entries), "rollback", "intent", by, reason, target, now.champion, evidence)
        held.confirm("entry intent")
        write(client, name, entry)
        move_champion(client, held, name, entry, now.entries)
    return entry


def named(by: str, where: str) -> str:
    """``by`` without blanks around it. Raises InvalidInput when nothing is left."""
    if not by.strip():
        raise InvalidInput("a decision needs the name of who decided", where=where, do="name a person, or the flow")
    return by.strip()


def explained(reason: str, where: str) -> str:
    """``reason`` without blanks around it. Raises InvalidInput when nothing is left."""
    if not reason.strip():
        raise InvalidInput("a person's decision needs a reason", where=where, do="say why, in a sentence")
    return reason.strip()


def _says(entry: Entry, action: Action, version: int, evidence: Evidence) -> bool:
    return (entry.action, entry.candidate, entry.evidence, entry.status) == (action, version, evidence, "completed")


def _check_outcome(candidate: Version, only_if: str | None) -> None:
    found = candidate.tags.get(OUTCOME)
    if only_if is not None and found != only_if:
        raise DecidedMeanwhile(
            f"is {(found or 'undecided').replace('_', ' ')} by now, not {only_if.replace('_', ' ')}",
            where=f"{candidate.name} version {candidate.version}",
            do="see `softprompt registry history`",
        )


def _check_base(target: Version, champion: Version) -> None:
    old, new = target.tags.get(BASE_FINGERPRINT), champion.tags.get(BASE_FINGERPRINT)
    if old != new:
        raise InvalidInput(
            f"was trained for another base ({(old or 'unknown')[:8]}) than the champion's ({(new or 'unknown')[:8]}), "
            "so whatever serves this task would have to load that base again",
            where=f"{target.name} version {target.version}",
            do="name another version with --to, or say --other-base if that base is in use",
        )
