"""A person's decision about a version: approve, reject, promote. The gates run again when the champion has moved."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from softprompt_core import registry
from softprompt_core.errors import InvalidInput, Outcome, Unavailable
from softprompt_core.fingerprint import fingerprint
from softprompt_core.registry import ChampionMoved, tags
from softprompt_core.registry import Evidence as LedgerEvidence
from softprompt_core.stages import record
from softprompt_core.stages.workspace import Workspace, home

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from softprompt_core.gates import Decision
    from softprompt_core.registry import Version
    from softprompt_core.spec import PromptSpec
    from softprompt_core.stages.evaluation import Evidence

Verb = Literal["approve", "reject", "promote"]
_TRIES = 3
_EVIDENCE = "evaluation/evidence.json"


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
    decision, seen = judge_again(client, version, champion)
    report = f"gates/again-champion-{champion or 'none'}"
    registry.log_json(client, version.run_id, decision.to_json(), f"{report}.json")
    registry.log_json(client, version.run_id, seen.to_json(), f"{report}-evidence.json")  # `gates explain` replays the pair
    registry.log_text(client, version.run_id, decision.to_markdown(), f"{report}.md")
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


def judge_again(client: MlflowClient, version: Version, champion: int | None) -> tuple[Decision, Evidence]:
    """What the gates of a version say when it is compared with ``champion`` on its test rows, and the evidence they saw.

    The stored answers of both are used if they were given to the same rows, made from the same data by the same spec and scored
    by the same source; else everyone is scored again, on the data that the version's spec names.

    Raises:
        InvalidInput: the data or the base are not those any more that the version was evaluated with.
    """
    from softprompt_core.serving import SPEC_FILE
    from softprompt_core.spec import load_spec
    from softprompt_core.stages.promotion import judge

    with _scratch(version) as scratch:
        folder = _files(client, version, scratch / "candidate")
        spec = load_spec(folder / SPEC_FILE)

        def seen(evidence: Evidence) -> tuple[Decision, Evidence]:
            return judge(spec, evidence), evidence

        stored = _stored_evidence(client, version, scratch)
        if champion is None:
            if stored is not None:
                return seen(replace(stored, champion=None, champion_problem=None))
            return seen(_scored_again(version, spec, folder, None, scratch, stored))
        other = registry.get(client, version.name, champion)
        theirs = _files(client, other, scratch / "champion")
        if stored is not None and _comparable(version, other, spec, load_spec(theirs / SPEC_FILE)):
            found = _stored_evidence(client, other, scratch)
            if found is not None and _same_rows(stored, found):
                answers = replace(found.candidate, scorer="champion")
                return seen(replace(stored, champion=answers, champion_problem=None))
        return seen(_scored_again(version, spec, folder, theirs, scratch, stored))


def _files(client: MlflowClient, version: Version, to: Path) -> Path:
    from mlflow.exceptions import MlflowException

    try:
        return registry.download(client, version.name, version.version, to)
    except (MlflowException, OSError) as error:
        raise Unavailable(
            f"its files cannot be read, and the gates must run again: {str(error).strip().splitlines()[0]}",
            where=f"{version.name} version {version.version}",
            do="make the artifact store reachable from here",
        ) from None


def _comparable(version: Version, other: Version, spec: PromptSpec, others: PromptSpec) -> bool:
    """Whether both were evaluated on the same data, in the same words, by the same source."""
    same = all(
        version.tags.get(tag) == other.tags.get(tag) is not None for tag in (tags.DATA_FINGERPRINT, tags.LIBRARY_FINGERPRINT)
    )

    def asked(given: PromptSpec) -> dict[str, Any]:
        return {**given.data.model_dump(mode="json"), "source": None, "evaluation": given.evaluation.model_dump(mode="json")}

    return same and asked(spec) == asked(others)


def _same_rows(one: Evidence, other: Evidence) -> bool:
    a, b = one.candidate, other.candidate
    return (a.ids, a.gold, a.labels, dict(a.slices)) == (b.ids, b.gold, b.labels, dict(b.slices))


def _stored_evidence(client: MlflowClient, version: Version, scratch: Path) -> Evidence | None:
    """What the version's run keeps; None where it ended before it could be written down."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    from softprompt_core.stages.evaluation import Evidence

    place = scratch / f"evidence-{version.version}"
    try:
        file = download_artifacts(
            run_id=version.run_id, artifact_path=_EVIDENCE, dst_path=str(place), tracking_uri=client.tracking_uri
        )
        return Evidence.load(Path(file))
    except (MlflowException, OSError, KeyError, TypeError, ValueError):
        return None


def _scored_again(
    version: Version, spec: PromptSpec, candidate: Path, champion: Path | None, scratch: Path, stored: Evidence | None
) -> Evidence:
    from softprompt_core.soft_prompt import FILE_NAME
    from softprompt_core.stages.evaluation import Evidence, evaluate
    from softprompt_core.stages.inputs import gather

    inputs, where = gather(spec), f"{version.name} version {version.version}"
    for what, now, tag in (
        ("data", inputs.data, tags.DATA_FINGERPRINT),
        ("base model", inputs.base.fingerprint, tags.BASE_FINGERPRINT),
    ):
        if now != version.tags.get(tag):
            raise InvalidInput(
                f"the gates must run again, but the {what} is not what it was evaluated with any more",
                where=where,
                do="run the task again: `softprompt run` trains and judges with what is there now",
            )
    # In a folder of its own: a lifecycle of the same task may be at work in the usual one.
    place = Workspace(scratch / "work")
    shutil.copytree(inputs.workspace.data, place.data)
    found = Evidence.load(evaluate(spec, replace(inputs, folder=str(place.folder)), candidate / FILE_NAME, champion))
    if stored is None:
        return found
    # What is known about the training stays as it was stored; everyone's answers are those given now.
    return replace(
        stored,
        candidate=found.candidate,
        champion=found.champion,
        champion_problem=found.champion_problem,
        baselines=found.baselines,
        hard_prompt=found.hard_prompt,
    )


@contextmanager
def _scratch(version: Version) -> Iterator[Path]:
    place = home() / "work" / version.name
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"review-{version.version}-", dir=place) as folder:
        yield Path(folder)
