"""The ledger: one entry a decision, kept as tags of the registered model. Aliases alone do not tell who moved them and why."""

from __future__ import annotations

import json
import secrets
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from softprompt_core.errors import InvalidInput
from softprompt_core.registry.tags import LEDGER_PREFIX, MODEL_TAG_LIMIT, shortened
from softprompt_core.registry.versions import registered_model

if TYPE_CHECKING:
    from mlflow import MlflowClient

Action = Literal["promote", "approve", "rollback", "moved by hand", "reject", "await", "prune"]
Status = Literal["intent", "completed", "superseded"]

MOVES: frozenset[Action] = frozenset({"promote", "approve", "rollback", "moved by hand"})
"""What makes another version champion."""

_BY_LIMIT = 200


@dataclass(frozen=True)
class Evidence:
    """What a decision rests on: the run that shows it, and the SHA-256 of its gate report."""

    run_id: str
    report: str


NO_EVIDENCE = Evidence("", "")


@dataclass(frozen=True)
class Entry:
    """One decision. ``intent``: begun; ``completed``: aliases and tags stand; ``superseded``: nothing was moved."""

    key: str
    action: Action
    status: Status
    by: str
    reason: str
    candidate: int | None
    """The version that the decision is about; None for ``prune``, and for an alias that was deleted by hand."""
    previous_champion: int | None
    evidence: Evidence
    override: bool = False
    """A person promoted although the gates had said no."""
    deleted: tuple[int, ...] = ()
    """Versions that ``prune`` took away."""

    @property
    def at(self) -> datetime:
        """When it was decided, UTC."""
        return _time(self.key)


def new_key(entries: Sequence[Entry] = ()) -> str:
    """A key that sorts behind those of ``entries``, whatever the clocks of the machines say that wrote them."""
    now = datetime.now(UTC)
    if entries:
        now = max(now, entries[-1].at + timedelta(microseconds=1))
    # The random end keeps two machines apart.
    return f"{LEDGER_PREFIX}{now.isoformat(timespec='microseconds').replace('+00:00', 'Z')}-{secrets.token_hex(4)}"


def write(client: MlflowClient, name: str, entry: Entry) -> None:
    """Write an entry, or write it again with another status. A reason that does not fit is cut."""
    client.set_registered_model_tag(name, entry.key, _to_json(entry))


def history(client: MlflowClient, name: str) -> list[Entry]:
    """All entries of a task, oldest first; empty when the task has no model yet.

    Raises:
        InvalidInput: somebody has changed an entry so that it cannot be read.
    """
    model = registered_model(client, name)
    return read(name, model.tags) if model is not None else []


def read(name: str, tags: dict[str, str]) -> list[Entry]:
    """The entries among a registered model's tags, oldest first. Raises InvalidInput as ``history`` does."""
    return [_from_json(name, key, tags[key]) for key in sorted(tags) if key.startswith(LEDGER_PREFIX)]


def last_move(entries: Sequence[Entry]) -> Entry | None:
    """The entry that made the champion which the ledger knows; None when there was none yet."""
    return next((e for e in reversed(entries) if e.action in MOVES and e.status == "completed"), None)


def champion_before(entries: Sequence[Entry], version: int | None) -> int | None:
    """Who was champion before ``version`` first took its place, last time; a rollback to it does not count as that."""
    moves = (e for e in reversed(entries) if e.action in MOVES and e.action != "rollback" and e.status == "completed")
    return next((e.previous_champion for e in moves if e.candidate == version), None)


def _to_json(entry: Entry) -> str:
    value: dict[str, Any] = {
        "action": entry.action,
        "status": entry.status,
        "by": shortened(entry.by, _BY_LIMIT),
        "why": "",
        "candidate": entry.candidate,
        "previous_champion": entry.previous_champion,
        "run": entry.evidence.run_id,
        "report": entry.evidence.report,
    }
    if entry.override:
        value["override"] = True
    if entry.deleted:
        value["deleted"] = list(entry.deleted)
    # One text for all statuses: the entry is written again with a longer one.
    room = MODEL_TAG_LIMIT - 1 - len(_compact({**value, "status": "superseded"}))
    lengths = range(1, len(entry.reason) + 1)
    fitting = bisect_right(lengths, room, key=lambda n: len(_compact(shortened(entry.reason, n))) - len('""'))
    return _compact({**value, "why": shortened(entry.reason, fitting) if fitting else ""})


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _from_json(name: str, key: str, text: str) -> Entry:
    try:
        _time(key)
        value = json.loads(text)
        return Entry(
            key=key,
            action=value["action"],
            status=value["status"],
            by=value["by"],
            reason=value["why"],
            candidate=value["candidate"],
            previous_champion=value["previous_champion"],
            evidence=Evidence(value["run"], value["report"]),
            override=value.get("override", False),
            deleted=tuple(value.get("deleted", ())),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"this ledger entry cannot be read: {error!r}",
            where=f"registered model {name}, tag {key}",
            do="restore or delete the tag in MLflow",
        ) from None


def _time(key: str) -> datetime:
    return datetime.fromisoformat(key.removeprefix(LEDGER_PREFIX).rpartition("-")[0])
