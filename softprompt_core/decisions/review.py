"""A person's decision about a version: approve, reject, promote. The gates run again when the champion has moved."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from softprompt_core.errors import InvalidInput, Outcome
from softprompt_core.fingerprint import fingerprint
from softprompt_core.store import tags, versions
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger import approval, reconcile, recording
from softprompt_core.store.ledger.entries import Entry, EvidenceRef
from softprompt_core.store.versions import Version

Verb = Literal["approve", "reject", "promote"]


class Review(BaseModel):
    """What a person's decision led to. ``gates``: the gate report, a line each, if the gates ran again."""

    model_config = ConfigDict(frozen=True)

    task: str
    version: int
    outcome: Outcome
    reason: str
    champion_before: int | None
    gates: tuple[str, ...] = ()


def review(store: Store, name: str, version: int, verb: Verb, *, by: str, reason: str, override: bool = False) -> Review:
    """Act on a person's word. The command line and the form in Prefect's pages both call this.

    - ``approve``: a version that awaits approval becomes champion. If the champion has moved since its gates ran, they run again
      against the new one, and if they fail now the version is rejected.
    - ``reject``: it is turned down.
    - ``promote``: a version that was promoted before becomes champion if its gates pass against the present one. With
      ``override`` any version that was decided about does, whatever the gates say.

    Raises:
        InvalidInput: nobody's name or no reason; no such version; it cannot be decided about in this way, or no more;
            the gates must run again and what they need is not there any more.
        Unavailable: MLflow, a version's files or the base model cannot be reached, or somebody else keeps deciding.
    """
    person = _Person(store, recording.require_name(by, name), recording.require_reason(reason, name))
    actions = {
        "approve": lambda: person.approve(name, version),
        "reject": lambda: person.reject(name, version),
        "promote": lambda: person.promote(name, version, override=override),
    }
    return recording.with_current_champion(store, name, actions[verb])


class _Person:
    """Somebody who decides, with a reason."""

    def __init__(self, store: Store, by: str, reason: str) -> None:
        self._store, self._by, self._reason = store, by, reason

    def approve(self, name: str, version: int) -> Review:
        waiting = approval.awaiting(self._store, name, version)
        versions.require_intact(self._store, waiting.version)
        if waiting.stale:
            return self._apply_gates_again(waiting.version, waiting.champion, approves=True)
        evidence = _evidence(waiting.version, self._last_decision(name, version))
        return self._record(waiting.version, waiting.champion, Outcome.PROMOTED, self._reason, evidence, approves=True)

    def reject(self, name: str, version: int) -> Review:
        candidate = versions.get(self._store, name, version)
        if not candidate.awaits_approval:
            approval.awaiting(self._store, name, version)  # says why not; one that expired may still be turned down
        champion = versions.aliases(self._store, name).get(tags.CHAMPION)
        evidence = _evidence(candidate, self._last_decision(name, version))
        return self._record(candidate, champion, Outcome.REJECTED, self._reason, evidence)

    def promote(self, name: str, version: int, *, override: bool) -> Review:
        candidate, where = versions.get(self._store, name, version), f"{name} version {version}"
        outcome, state = candidate.decision, reconcile.task_state(self._store, name)
        if state.champion == version:
            raise InvalidInput("is the champion already", where=where, do="see `softprompt registry show`")
        if outcome is None:
            raise InvalidInput("no decision was made about it yet", where=where, do="let its run end, or run the task again")
        if candidate.awaits_approval:
            raise InvalidInput("waits for approval", where=where, do="softprompt registry approve")
        versions.require_intact(self._store, candidate)
        entry = approval.decision_about(state.entries, version)
        if override:
            evidence = _evidence(candidate, entry)
            return self._record(candidate, state.champion, Outcome.PROMOTED, self._reason, evidence, override=True)
        if outcome is not Outcome.PROMOTED:
            why = f": {entry.reason}" if entry else ""
            raise InvalidInput(
                f"was rejected{why}", where=where, do="--override promotes it nevertheless; the ledger says so, with your reason"
            )
        return self._apply_gates_again(candidate, state.champion)

    def _last_decision(self, name: str, version: int) -> Entry | None:
        return approval.decision_about(reconcile.task_state(self._store, name).entries, version)

    def _apply_gates_again(self, version: Version, champion: int | None, approves: bool = False) -> Review:
        """Let the gates compare with the champion that stands now, and act on what they say."""
        from softprompt_core.decisions.reevaluate import log_again, reevaluate

        decision, results = reevaluate(self._store, version, champion)
        log_again(self._store, version.run_id, champion, decision, results)
        evidence = EvidenceRef(version.run_id, fingerprint(decision.model_dump(mode="json")))
        now = f" because the champion is version {champion} by now" if champion else ""
        verdict = decision.verdict.removesuffix("; a person must approve.").rstrip(".")
        again = f"the gates ran again{now}: {verdict}"
        outcome = Outcome.PROMOTED if decision.passed else Outcome.REJECTED
        reason = f"{self._reason} ({again})" if decision.passed else f"{again}. {self._by} had said: {self._reason}"
        done = self._record(version, champion, outcome, reason, evidence, approves=approves)
        return done.model_copy(update={"gates": tuple(decision.to_text().splitlines())})

    def _record(
        self,
        version: Version,
        champion: int | None,
        outcome: Outcome,
        reason: str,
        evidence: EvidenceRef,
        *,
        approves: bool = False,
        override: bool = False,
    ) -> Review:
        decision = recording.NewDecision(
            name=version.name,
            version=version.version,
            expected_champion=champion,
            outcome=outcome,
            by=self._by,
            reason=reason,
            evidence=evidence,
            approves=approves,
            override=override,
            only_if=version.tags.get(tags.OUTCOME),
        )
        recording.record_decision(self._store, decision)
        return Review(task=version.name, version=version.version, outcome=outcome, reason=reason, champion_before=champion)


def _evidence(version: Version, entry: Entry | None) -> EvidenceRef:
    return entry.evidence if entry else EvidenceRef(version.run_id, "")
