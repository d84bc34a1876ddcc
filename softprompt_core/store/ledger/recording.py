"""Record a decision: first the ledger entry, then the alias, and only if the champion is still the one that was compared with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type

from softprompt_core.errors import InvalidInput, Outcome
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger.entries import MOVES, Action, Entry, EvidenceRef, champion_before, write
from softprompt_core.store.ledger.lock import DecisionLock, comparing_turn, decision_lock
from softprompt_core.store.ledger.moves import (
    ChampionMoved,
    champion_moved,
    exists,
    mark_withdrawn,
    move_challenger,
    move_champion,
)
from softprompt_core.store.ledger.reconcile import TaskState, reconciled
from softprompt_core.store.tags import APPROVAL_EXPIRES, BASE_FINGERPRINT, OUTCOME
from softprompt_core.store.versions import Version, get, require_intact

T = TypeVar("T")

_ACTIONS: dict[Outcome, Action] = {Outcome.PROMOTED: "promote", Outcome.REJECTED: "reject", Outcome.AWAITING_APPROVAL: "await"}


class DecidedMeanwhile(InvalidInput):
    """Somebody else has decided about the version since it was looked at; nothing was changed."""


@dataclass(frozen=True)
class NewDecision:
    """A decision about a version, not recorded yet.

    Attributes:
        name: the task.
        expected_champion: the version that the gates compared with; None if there was no champion.
        by: who decided: a person, or the flow.
        approves: the promotion is a person's answer to ``awaiting_approval``.
        override: a person promotes although the gates said no.
        only_if: the outcome that the version must have until now.
        approval_expires: until when a version that awaits approval may be approved, UTC.
    """

    name: str
    version: int
    expected_champion: int | None
    outcome: Outcome
    by: str
    reason: str
    evidence: EvidenceRef
    approves: bool = False
    override: bool = False
    only_if: str | None = None
    approval_expires: datetime | None = None

    @property
    def action(self) -> Action:
        """What the ledger calls it. Raises ValueError when the outcome is not a decision."""
        if self.outcome not in _ACTIONS:
            raise ValueError(f"{self.outcome} is not a decision about a version")
        return "approve" if self.approves and self.outcome is Outcome.PROMOTED else _ACTIONS[self.outcome]


def record_decision(store: Store, decision: NewDecision) -> Outcome:
    """Write a decision down and move the aliases; returns its outcome.

    Promoted: ``champion`` moves to the version and ``previous`` to the old champion. Rejected or awaiting approval:
    ``challenger`` moves to the version, the champion stays. Recording a decision again that is completed changes nothing.

    Raises:
        ChampionMoved: the champion is another one by now; the entry is ``superseded`` and nothing else was changed.
        DecidedMeanwhile: the version's outcome is not ``only_if`` any more.
        InvalidInput: no such finished version, nobody's name, or the champion itself is to be turned down.
        Unavailable: another process has been deciding for minutes, or took this one for dead.
        ValueError: the outcome is not a decision.
    """
    name, version, action = decision.name, decision.version, decision.action
    by = require_name(decision.by, name)
    get(store, name, version)
    with decision_lock(store, name) as lock:
        state = reconciled(lock)
        candidate = get(store, name, version)
        if _is_recorded(state, decision):
            return decision.outcome
        _require_outcome(candidate, decision.only_if)
        override = decision.override and action == "promote"
        entry = state.new_entry(action, by, decision.reason, version, decision.evidence, override=override)
        if state.champion != decision.expected_champion:
            raise champion_moved(lock, entry, state.champion, decision.expected_champion)
        promotes = decision.outcome is Outcome.PROMOTED
        if not promotes and state.champion == version:
            raise InvalidInput(
                "is the champion and cannot be turned down",
                where=f"{name} version {version}",
                do="`softprompt registry rollback` makes the champion before it champion again",
            )
        if decision.outcome is Outcome.AWAITING_APPROVAL and decision.approval_expires is not None:
            lock.heartbeat("approval expires")
            expires = decision.approval_expires.isoformat(timespec="seconds")
            store.client.set_model_version_tag(name, str(version), APPROVAL_EXPIRES, expires)
        _write_intent(lock, entry)
        if promotes:
            move_champion(lock, entry, state.entries)
        else:
            move_challenger(lock, entry, state.entries)
    return decision.outcome


def with_current_champion(store: Store, name: str, attempt: Callable[[], T]) -> T:
    """The result of ``attempt``, which compares with the champion and records a decision.

    Where the champion moves meanwhile the attempt is made again, one process at a time, until it has compared with the champion
    that stands: each further try follows a promotion by somebody who came for the first time, so that all come to an end.

    Raises:
        Unavailable: somebody who came before has been comparing for an hour.
    """
    with suppress(ChampionMoved):
        return attempt()
    with comparing_turn(store, name):
        return Retrying(retry=retry_if_exception_type(ChampionMoved))(attempt)


def withdraw(store: Store, version: Version, *, by: str, reason: str) -> bool:
    """Record that nobody will decide about an undecided version any more; returns False if somebody has decided meanwhile.

    No alias moves. The version does not stand for its inputs: the next run of the task decides about another one.

    Raises:
        InvalidInput, Unavailable: as for ``record_decision``.
    """
    by, name = require_name(by, version.name), version.name
    with decision_lock(store, name) as lock:
        state = reconciled(lock)
        if OUTCOME in get(store, name, version.version).tags:
            return False
        evidence = EvidenceRef(version.run_id, "")
        entry = state.new_entry("withdraw", by, reason, version.version, evidence)
        _write_intent(lock, entry)
        mark_withdrawn(lock, entry, state.entries)
    return True


def rollback(store: Store, *, name: str, by: str, reason: str, to: int | None = None, other_base: bool = False) -> Entry:
    """Make an earlier champion champion again; returns the ledger entry.

    ``previous`` then points at the champion before that one, so that a second rollback goes one further back.

    Args:
        to: a version that was champion before; None takes the one before the present champion.
        other_base: go back even to a version that was trained for another base than the champion's.

    Raises:
        InvalidInput: nobody's name or no reason; nothing to go back to; the version is gone or its files are, never was champion,
            is champion now, or belongs to another base.
        ChampionMoved, Unavailable: as for ``record_decision``.
    """
    by, reason = require_name(by, name), require_reason(reason, name)
    with decision_lock(store, name) as lock:
        state = reconciled(lock)
        target = _rollback_target(store, name, state, to)
        require_intact(store, target)
        if state.champion is not None and not other_base and exists(store, name, state.champion):
            _require_same_base(target, get(store, name, state.champion))
        evidence = EvidenceRef(target.run_id, "")
        entry = state.new_entry("rollback", by, reason, target.version, evidence)
        _write_intent(lock, entry)
        move_champion(lock, entry, state.entries)
    return entry


def require_name(by: str, where: str) -> str:
    """``by`` without blanks around it. Raises InvalidInput when nothing is left."""
    if not by.strip():
        raise InvalidInput("a decision needs the name of who decided", where=where, do="name a person, or the flow")
    return by.strip()


def require_reason(reason: str, where: str) -> str:
    """``reason`` without blanks around it. Raises InvalidInput when nothing is left."""
    if not reason.strip():
        raise InvalidInput("a person's decision needs a reason", where=where, do="say why, in a sentence")
    return reason.strip()


def _write_intent(lock: DecisionLock, entry: Entry) -> None:
    lock.heartbeat("entry intent")
    write(lock.store, lock.task, entry)


def _is_recorded(state: TaskState, decision: NewDecision) -> bool:
    """Whether this is a retry of a decision that is completed; ``reconciled`` has just done the steps that were missing."""
    move, last = state.last_move, state.entries[-1] if state.entries else None
    if decision.outcome is Outcome.PROMOTED and state.champion == decision.version and move is not None:
        return move.action != "moved by hand"
    recorded = last and (last.action, last.candidate, last.evidence, last.status)
    return recorded == (decision.action, decision.version, decision.evidence, "completed")


def _rollback_target(store: Store, name: str, state: TaskState, to: int | None) -> Version:
    target = to if to is not None else champion_before(state.entries, state.champion)
    if target is None:
        raise InvalidInput("there is no earlier champion to go back to", where=name, do="see `softprompt registry history`")
    where = f"{name} version {target}"
    if target == state.champion:
        raise InvalidInput("is the champion already", where=where, do="name another version with --to")
    if not exists(store, name, target):
        raise InvalidInput("does not exist any more", where=where, do="name another version with --to")
    moves = [e for e in state.entries if e.status == "completed" and e.action in MOVES]
    if not any(target in (e.candidate, e.previous_champion) for e in moves):
        raise InvalidInput("was never champion", where=where, do="`softprompt registry promote` lets the gates see it first")
    return get(store, name, target)


def _require_outcome(candidate: Version, only_if: str | None) -> None:
    outcome = candidate.tags.get(OUTCOME)
    if only_if is not None and outcome != only_if:
        raise DecidedMeanwhile(
            f"is {(outcome or 'undecided').replace('_', ' ')} by now, not {only_if.replace('_', ' ')}",
            where=f"{candidate.name} version {candidate.version}",
            do="see `softprompt registry history`",
        )


def _require_same_base(target: Version, champion: Version) -> None:
    old, new = target.tags.get(BASE_FINGERPRINT), champion.tags.get(BASE_FINGERPRINT)
    if old != new:
        raise InvalidInput(
            f"was trained for another base ({(old or 'unknown')[:8]}) than the champion's ({(new or 'unknown')[:8]}), "
            "so whatever serves this task would have to load that base again",
            where=f"{target.name} version {target.version}",
            do="name another version with --to, or say --other-base if that base is in use",
        )
