"""Decide about a version: write the gates' decision into the ledger and move the aliases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from softprompt_core.errors import Outcome
from softprompt_core.fingerprint import fingerprint
from softprompt_core.gates import Decision
from softprompt_core.spec import PromptSpec
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger.entries import LIFECYCLE, EvidenceRef
from softprompt_core.store.ledger.recording import NewDecision, record_decision
from softprompt_core.store.versions import Version


def decide(
    spec: PromptSpec,
    store: Store,
    version: Version,
    decision: Decision,
    champion: int | None,
    *,
    by: str = LIFECYCLE,
    reason: str | None = None,
) -> Outcome:
    """Record what the gates say about a version, and act on it.

    Args:
        champion: the version that the gates compared with; None if there was none.
        by: who decides: the lifecycle, or a person.
        reason: by default the gates' verdict.

    Raises:
        ChampionMoved: another version became champion since ``champion`` was compared with; nothing was moved.
    """
    waits = decision.outcome is Outcome.AWAITING_APPROVAL
    new = NewDecision(
        name=spec.name,
        version=version.version,
        expected_champion=champion,
        outcome=decision.outcome,
        by=by,
        reason=reason or decision.verdict,
        evidence=EvidenceRef(version.run_id, fingerprint(decision.model_dump(mode="json"))),
        approval_expires=datetime.now(UTC) + timedelta(days=spec.approval_expires_days) if waits else None,
    )
    return record_decision(store, new)
