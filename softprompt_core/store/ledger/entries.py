"""The ledger: one entry a decision, kept as tags of the registered model. Aliases alone do not show who moved them and why."""

from __future__ import annotations

import json
import secrets
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from softprompt_core.errors import InvalidInput
from softprompt_core.store.connection import Store
from softprompt_core.store.tags import LEDGER_PREFIX, MODEL_TAG_LIMIT, shortened

Action = Literal["promote", "approve", "rollback", "moved by hand", "reject", "await", "withdraw", "prune"]
Status = Literal["intent", "completed", "superseded"]

MOVES: frozenset[Action] = frozenset({"promote", "approve", "rollback", "moved by hand"})
"""Actions that make another version champion."""

LIFECYCLE = "softprompt-lifecycle"
"""Who decides where no person does."""
_BY_LIMIT = 200


@dataclass(frozen=True)
class EvidenceRef:
    """Where the evidence for a decision is: the run that holds it, and the SHA-256 of its gate report."""

    run_id: str
    report: str


NO_EVIDENCE = EvidenceRef("", "")


class Entry(BaseModel):
    """One decision.

    Attributes:
        key: the tag that holds it.
        status: ``intent``: begun; ``completed``: aliases and tags are as the decision wants them; ``superseded``: it changed
            nothing, because the champion had moved or the process died before.
        candidate: the version that the decision is about; None for ``prune``, and for an alias that was deleted by hand.
        override: a person promoted although the gates had said no.
        deleted: versions that ``prune`` deleted.
    """

    model_config = ConfigDict(frozen=True, validate_by_name=True, serialize_by_alias=True)

    key: str = Field(exclude=True)
    action: Action
    status: Status
    by: str
    reason: str = Field(alias="why")
    candidate: int | None
    previous_champion: int | None
    evidence: EvidenceRef = Field(exclude=True)  # stored as `run` and `report`
    override: bool = False
    deleted: tuple[int, ...] = ()

    @property
    def at(self) -> datetime:
        """When it was decided, UTC."""
        return _time(self.key)

    def with_status(self, status: Status, **changes: Any) -> Entry:
        return self.model_copy(update={"status": status, **changes})


def new_key(entries: Sequence[Entry] = ()) -> str:
    """A key that sorts behind those of ``entries``, whatever the clocks of the machines were that wrote them."""
    now = datetime.now(UTC)
    if entries:
        now = max(now, entries[-1].at + timedelta(microseconds=1))
    # The random end keeps two machines apart.
    return f"{LEDGER_PREFIX}{now.isoformat(timespec='microseconds').replace('+00:00', 'Z')}-{secrets.token_hex(4)}"


def write(store: Store, name: str, entry: Entry) -> None:
    """Write an entry, or write it again with another status. A reason that does not fit is cut."""
    store.client.set_registered_model_tag(name, entry.key, _to_json(entry))


def history(store: Store, name: str) -> list[Entry]:
    """All entries of a task, oldest first; empty when the task has no model yet.

    Raises:
        InvalidInput: somebody has changed an entry so that it cannot be read.
    """
    model = store.reader.model(name)
    return read(name, model.tags) if model is not None else []


def read(name: str, tags: Mapping[str, str]) -> list[Entry]:
    """The entries among a registered model's tags, oldest first. Raises InvalidInput as ``history`` does."""
    return [_from_json(name, key, tags[key]) for key in sorted(tags) if key.startswith(LEDGER_PREFIX)]


def champion_before(entries: Sequence[Entry], version: int | None) -> int | None:
    """The champion before ``version`` last became champion, rollbacks to it left out."""
    moves = (e for e in reversed(entries) if e.action in MOVES and e.action != "rollback" and e.status == "completed")
    return next((e.previous_champion for e in moves if e.candidate == version), None)


def _to_json(entry: Entry) -> str:
    value = {
        **entry.model_dump(exclude_defaults=True),
        "by": shortened(entry.by, _BY_LIMIT),
        "run": entry.evidence.run_id,
        "report": entry.evidence.report,
    }
    # As much of the reason as fits with the longest status: the entry is written again with another one.
    room = MODEL_TAG_LIMIT - 1 - len(_compact({**value, "why": "", "status": "superseded"}))
    lengths = range(1, len(entry.reason) + 1)
    fitting = bisect_right(lengths, room, key=lambda n: len(_compact(shortened(entry.reason, n))) - len('""'))
    return _compact({**value, "why": shortened(entry.reason, fitting) if fitting else ""})


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _from_json(name: str, key: str, text: str) -> Entry:
    try:
        _time(key)
        value = json.loads(text)
        return Entry.model_validate({**value, "key": key, "evidence": EvidenceRef(value["run"], value["report"])})
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"this ledger entry cannot be read: {error!r}",
            where=f"registered model {name}, tag {key}",
            do="restore or delete the tag in MLflow",
        ) from None


def _time(key: str) -> datetime:
    return datetime.fromisoformat(key.removeprefix(LEDGER_PREFIX).rpartition("-")[0])
