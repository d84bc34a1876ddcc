"""Last stage: the gates decide, and the registry acts on it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from softprompt_core.errors import Outcome
from softprompt_core.fingerprint import fingerprint
from softprompt_core.gates import Decision, Policy, decide
from softprompt_core.registry import Evidence as LedgerEvidence
from softprompt_core.registry import record_decision
from softprompt_core.spec import PromptSpec
from softprompt_core.stages.evidence import Evidence
from softprompt_core.stages.record import stores

if TYPE_CHECKING:
    from mlflow import MlflowClient


def judge(spec: PromptSpec, evidence: Evidence) -> Decision:
    """The gates' decision on the evidence. Pure."""
    policy = Policy(spec.gates, spec.approval)
    return decide(evidence.candidate, evidence.champion, policy, evidence.baselines, evidence.facts)


def act(
    client: MlflowClient,
    spec: PromptSpec,
    version: int,
    champion: int | None,
    decision: Decision,
    run_id: str,
    by: str,
    reason: str | None = None,
) -> Outcome:
    """Write the decision into the ledger, by default with the gates' verdict as its reason, and move the aliases.

    Raises:
        ChampionMoved: another version became champion since ``champion`` was compared with; nothing was moved.
    """
    expires = datetime.now(UTC) + timedelta(days=spec.approval_expires_days)
    return record_decision(
        client,
        stores(),
        name=spec.name,
        version=version,
        expected_champion=champion,
        outcome=decision.outcome,
        by=by,
        reason=reason or decision.verdict,
        evidence=LedgerEvidence(run_id, fingerprint(decision.to_json())),
        approval_expires=expires if decision.outcome is Outcome.AWAITING_APPROVAL else None,
    )
