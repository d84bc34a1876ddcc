"""A person's decision about a version: approve, reject, promote. The gates run again when the champion has moved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from softprompt_core import registry
from softprompt_core.errors import InvalidInput, Outcome
from softprompt_core.fingerprint import fingerprint
from softprompt_core.registry import ChampionMoved, tags
from softprompt_core.registry import Evidence as LedgerEvidence
from softprompt_core.stages import record

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from softprompt_core.registry import Version

Verb = Literal["approve", "reject", "promote"]
_TRIES = 3


@dataclass(frozen=True)
class Review:
    """What a person's decision led to. ``gates``: the gate report, if the gates ran again."""

    task: str
    version: int
    outcome: Outcome
    reason: str
    champion_before: int | None
    gates: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "version": self.version,
            "outcome": self.outcome.value,
            "reason": self.reason,
            "champion_before": self.champion_before,
            "gates": self.gates.splitlines() if self.gates else [],
        }


def review(name: str, version: int, verb: Verb, *, by: str, reason: str, override: bool = False) -> Review:
    """Act on a person's word. The command line and the form in Prefect's pages both call this.

    - ``approve``: a version that awaits approval becomes champion. If the champion has moved since its gates ran, they run again
      against the new one, and if they fail now the version is rejected.
    - ``reject``: it is turned down.
    - ``promote``: a version that was promoted before becomes champion if its gates pass against the present one. With
      ``override`` any version that was decided about does, whatever the gates say.

    Raises:
        InvalidInput: nobody's name or no reason; no such version; it cannot be decided about in this way, or no more;
            the gates must run again and what they need is not there any more.
        ChampionMoved: the champion kept moving while the gates ran.
        Unavailable: MLflow, a version's files or the base model cannot be reached, or somebody else keeps deciding.
    """
    by, reason = registry.named(by, name), registry.explained(reason, name)
    client = record.client()
    for attempt in range(1, _TRIES + 1):
        try:
            if verb == "promote":
                return _promote(client, name, version, by, reason, override)
            return (
                _approve(client, name, version, by, reason) if verb == "approve" else _reject(client, name, version, by, reason)
            )
        except ChampionMoved:
            if attempt == _TRIES:
                raise
    raise AssertionError


def _reject(client: MlflowClient, name: str, version: int, by: str, reason: str) -> Review:
    found = registry.get(client, name, version)
    if not found.awaits_approval:
        registry.awaiting(client, name, version)  # says why not; one that expired may still be turned down
    champion = registry.aliases(client, name).get(tags.CHAMPION)
    entry = registry.decision_about(registry.standing(client, name).entries, version)
    evidence = entry.evidence if entry else LedgerEvidence(found.run_id, "")
    return _record(client, found, champion, Outcome.REJECTED, by, reason, evidence, only_if=Outcome.AWAITING_APPROVAL)


def _approve(client: MlflowClient, name: str, version: int, by: str, reason: str) -> Review:
    waiting = registry.awaiting(client, name, version)
    only_if = Outcome.AWAITING_APPROVAL
    if not waiting.stale:
        entry = registry.decision_about(registry.standing(client, name).entries, version)
        evidence = entry.evidence if entry else LedgerEvidence(waiting.version.run_id, "")
        return _record(client, waiting.version, waiting.champion, Outcome.PROMOTED, by, reason, evidence, only_if, approves=True)
    return _judged_again(client, waiting.version, waiting.champion, by, reason, only_if, approves=True)


def _promote(client: MlflowClient, name: str, version: int, by: str, reason: str, override: bool) -> Review:
    found, where = registry.get(client, name, version), f"{name} version {version}"
    outcome, now = found.tags.get(tags.OUTCOME), registry.standing(client, name)
    if now.champion == version:
        raise InvalidInput("is the champion already", where=where, do="see `softprompt registry show`")
    if outcome is None:
        raise InvalidInput("no decision was made about it yet", where=where, do="let its run end, or run the task again")
    if found.awaits_approval:
        raise InvalidInput("waits for approval", where=where, do="softprompt registry approve")
    entry = registry.decision_about(now.entries, version)
    evidence = entry.evidence if entry else LedgerEvidence(found.run_id, "")
    if override:
        return _record(client, found, now.champion, Outcome.PROMOTED, by, reason, evidence, outcome, override=True)
    if outcome != Outcome.PROMOTED.value:
        why = f": {entry.reason}" if entry else ""
        raise InvalidInput(
            f"was rejected{why}", where=where, do="--override promotes it nevertheless; the ledger says so, with your reason"
        )
    return _judged_again(client, found, now.champion, by, reason, outcome)


def _judged_again(
    client: MlflowClient, version: Version, champion: int | None, by: str, reason: str, only_if: str, approves: bool = False
) -> Review:
    """Let the gates compare with the champion that stands now, and act on what they say."""
    from softprompt_core.stages.rejudging import judge_again, log_again

    decision, seen = judge_again(client, version, champion)
    log_again(client, version.run_id, champion, decision, seen)
    evidence = LedgerEvidence(version.run_id, fingerprint(decision.to_json()))
    against = f"the gates ran again because the champion is version {champion} by now" if champion else "the gates ran again"
    verdict = decision.verdict.removesuffix("; a person must approve.").rstrip(".")
    outcome = Outcome.PROMOTED if decision.passed else Outcome.REJECTED
    words = f"{reason} ({against}: {verdict})" if decision.passed else f"{against}: {verdict}. {by} had said: {reason}"
    done = _record(client, version, champion, outcome, by, words, evidence, only_if, approves=approves)
    return replace(done, gates=decision.to_text())


def _record(
    client: MlflowClient,
    version: Version,
    champion: int | None,
    outcome: Outcome,
    by: str,
    reason: str,
    evidence: LedgerEvidence,
    only_if: str,
    *,
    approves: bool = False,
    override: bool = False,
) -> Review:
    registry.record_decision(
        client,
        record.stores(),
        name=version.name,
        version=version.version,
        expected_champion=champion,
        outcome=outcome,
        by=by,
        reason=reason,
        evidence=evidence,
        approves=approves,
        override=override,
        only_if=only_if,
    )
    return Review(version.name, version.version, outcome, reason, champion)
