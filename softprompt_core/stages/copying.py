"""Promotion across environments: the very version of another store becomes a version here, and the gates here decide about it.

Nothing is trained. The order of writing: run with all evidence → model → version → decision. A process may be killed anywhere;
done again it goes on with what is there. A version whose registration broke off is never seen by anybody.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from softprompt_core import registry, report
from softprompt_core.errors import InvalidInput, Outcome
from softprompt_core.evaluation import all_metrics
from softprompt_core.gates import Decision
from softprompt_core.registry import ChampionMoved, Version, tags
from softprompt_core.serving import SPEC_FILE
from softprompt_core.spec import PromptSpec, load_spec
from softprompt_core.stages import record, reporting
from softprompt_core.stages.bundle import Bundle
from softprompt_core.stages.evidence import Evidence
from softprompt_core.stages.fetching import store_id
from softprompt_core.stages.gate_report import comparison
from softprompt_core.stages.inputs import spec_fingerprint
from softprompt_core.stages.promotion import act, judge
from softprompt_core.stages.rejudging import Candidate, judge_against, log_again
from softprompt_core.stages.result import LifecycleResult
from softprompt_core.stages.workspace import read_json

if TYPE_CHECKING:
    from mlflow import MlflowClient

_TRIES = 3
# What a store says about its own doings; all other tags of a version or a run are about the training, and go along.
_LOCAL = (
    tags.STATUS,
    tags.OUTCOME,
    tags.DECIDED_AT,
    tags.APPROVAL_EXPIRES,
    tags.WITHDRAWN,
    tags.PREFECT_RUN,
    tags.PROCESS,
    tags.COMPARED_WITH,
    tags.CONTENT_FINGERPRINT,
    tags.EVIDENCE_FINGERPRINT,
)
# Made anew here, because they are about the champion there; the originals are kept below `source/`.
_REMADE = ("gates/", "evaluation/evidence.json", "evaluation/comparison.png", "source/")


@dataclass(frozen=True)
class Order:
    """Whose word it is, and where the version is from."""

    profile: str
    by: str
    reason: str


def copy(bundle: Bundle, order: Order, spec: PromptSpec | None = None) -> LifecycleResult:
    """Register what was brought from another store, unless it is here, and let its gates compare it with the champion here.

    The answers that are stored are used if champion and candidate both gave theirs to the same rows: in the other environment,
    where the champion there was the one that is champion here, or each when it was judged. Else both are scored again.

    Args:
        spec: the task's spec as it is now; the version must have been made from an equal one. Its data are read if everyone must
            be scored again.

    Raises:
        InvalidInput: both stores are one; the version was made from another spec, or was rolled back here; the gates need data or
            a base that are not here. Nothing was registered.
        ChampionMoved: the champion kept moving while the gates ran.
        Unavailable: MLflow or the base model cannot be reached, or somebody else keeps deciding.
    """
    began, client = time.monotonic(), record.client()
    where = f"{bundle.task} version {bundle.version} of {order.profile}"
    if store_id(record.stores()) == bundle.store_id:
        raise InvalidInput("is in the store that it would be copied to", where=where, do="name another profile with --from")
    own = load_spec(bundle.prompt / SPEC_FILE)
    if spec is not None and spec_fingerprint(spec) != bundle.tags.get(tags.SPEC_FINGERPRINT):
        raise InvalidInput(
            "was made from another spec than the one that is named here",
            where=where,
            do="wait until this spec was trained and promoted there, or name the spec that was",
        )
    evidence = Evidence.from_json(read_json(bundle.evidence))
    candidate = Candidate(bundle.task, where, bundle.tags, bundle.prompt, spec or own, evidence)
    for attempt in range(1, _TRIES + 1):
        try:
            result = _decided(client, bundle, order, candidate)
            return replace(result, seconds=round(time.monotonic() - began, 1))
        except ChampionMoved:
            if attempt == _TRIES:
                raise
    raise AssertionError


def _decided(client: MlflowClient, bundle: Bundle, order: Order, candidate: Candidate) -> LifecycleResult:
    name, content = bundle.task, bundle.tags[tags.CONTENT_FINGERPRINT]
    champion = registry.by_alias(client, name, tags.CHAMPION)
    here = _same_content(client, name, content)
    if champion is not None and champion.tags.get(tags.CONTENT_FINGERPRINT) == content:
        _close(client, champion, Outcome.PROMOTED)
        return _result(client, champion, Outcome.UNCHANGED, f"version {champion.version} has these very files and is champion")
    if here is not None:
        if tags.WITHDRAWN in here.tags:
            raise InvalidInput(
                f"is version {here.version} here, which was {here.tags[tags.WITHDRAWN]}",
                where=candidate.where,
                do=f"softprompt registry promote {name} {here.version}",
            )
        if (known := _decided_before(client, here, champion)) is not None:
            _close(client, here, known[0])
            return _result(client, here, *known)
    decision, evidence = _judged(client, bundle, candidate, champion)
    version = here or _registered(client, bundle, order, decision, evidence, champion)
    client.update_registered_model(name, candidate.spec.description or f"Soft prompts of the task {name}.")
    if here is not None and tags.OUTCOME in here.tags:
        log_again(client, here.run_id, champion.version if champion else None, decision, evidence)
    else:
        _log_decision(client, bundle, version.run_id, decision, evidence, champion)
    reason = f"{order.reason} (version {bundle.version} of {order.profile}: {decision.verdict.rstrip('.')})"
    act(
        client,
        candidate.spec,
        version.version,
        champion.version if champion else None,
        decision,
        version.run_id,
        order.by,
        reason,
    )
    words = _described(bundle, order, candidate.spec, decision, evidence, version)
    registry.finish(client, version.run_id, decision.outcome, words)
    return _result(client, version, decision.outcome, decision.verdict, evidence, decision)


def _same_content(client: MlflowClient, name: str, content: str) -> Version | None:
    """The newest version here with the same files, from an earlier copy or one that broke off before a decision."""
    found = registry.list_versions(client, name)
    return next((version for version in found if version.tags.get(tags.CONTENT_FINGERPRINT) == content), None)


def _decided_before(client: MlflowClient, here: Version, champion: Version | None) -> tuple[Outcome, str] | None:
    """What was decided about it against the champion that still stands; deciding again would say the same."""
    entry = registry.decision_about(registry.standing(client, here.name).entries, here.version)
    outcome = here.tags.get(tags.OUTCOME)
    if entry is None or outcome not in (Outcome.REJECTED.value, Outcome.AWAITING_APPROVAL.value) or here.approval_expired():
        return None
    if entry.previous_champion != (champion.version if champion else None):
        return None
    return Outcome(outcome), f"version {here.version} is the same: {entry.reason}"


def _judged(client: MlflowClient, bundle: Bundle, candidate: Candidate, champion: Version | None) -> tuple[Decision, Evidence]:
    stored = candidate.evidence
    assert stored is not None
    known = champion is not None and champion.tags.get(tags.CONTENT_FINGERPRINT)
    if known and known == bundle.compared_content and stored.champion is not None and len(stored.champion):
        return judge(candidate.spec, stored), stored  # the champion there was the one that is champion here
    return judge_against(client, candidate, champion.version if champion else None, bundle.folder)


def _registered(
    client: MlflowClient, bundle: Bundle, order: Order, decision: Decision, evidence: Evidence, champion: Version | None
) -> Version:
    """The version in this store, with a run that holds all that the run there holds. One process at a time, so that two that are
    told the same do not register it twice."""
    stores = record.stores()
    with registry.turn(client, stores, f"copies of {bundle.task}") as held:
        found = _same_content(client, bundle.task, bundle.tags[tags.CONTENT_FINGERPRINT])
        if found is not None:
            return found
        experiment = registry.experiment_id(client, bundle.task, stores)
        run_id = registry.start_run(client, experiment, bundle.run[1], _tags(bundle.run_tags, bundle, order))
        registry.log_params(client, run_id, bundle.params)
        kept = {name: points for name, points in bundle.metrics.items() if not name.startswith("champion/")}
        registry.log_points(client, run_id, kept)
        held.confirm("files of the run")
        client.log_artifacts(run_id, str(_arranged(bundle)))
        _log_decision(client, bundle, run_id, decision, evidence, champion)
        held.confirm("version")
        return registry.register_copy(
            client,
            run_id=run_id,
            name=bundle.task,
            files=bundle.files,
            description=_version_description(bundle, order, decision, evidence, experiment, run_id),
            tags=_tags(bundle.tags, bundle, order),
        )


def _tags(given: Mapping[str, str], bundle: Bundle, order: Order) -> dict[str, str]:
    kept = {name: value for name, value in given.items() if name.startswith("softprompt.") and name not in _LOCAL}
    if table := given.get("mlflow.loggedArtifacts"):
        kept["mlflow.loggedArtifacts"] = table  # what MLflow's pages show as a table
    return {
        **kept,
        tags.SOURCE: order.profile,
        tags.SOURCE_STORE: bundle.store,
        tags.SOURCE_VERSION: str(bundle.version),
        tags.SOURCE_RUN: bundle.run[0],
        tags.SOURCE_URL: bundle.url,
    }


def _arranged(bundle: Bundle) -> Path:
    """The run's files, with those that are made anew here below ``source/``; of a copy of a copy, below ``source/source/``."""
    place = bundle.folder / "arranged"
    for path in bundle.artifacts.rglob("*"):
        if path.is_file():
            name = path.relative_to(bundle.artifacts).as_posix()
            to = place / "source" / name if name.startswith(_REMADE) else place / name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, to)
    return place


def _log_decision(
    client: MlflowClient, bundle: Bundle, run_id: str, decision: Decision, evidence: Evidence, champion: Version | None
) -> None:
    reporting.log_decision(client, run_id, evidence, decision)
    registry.log_figure(client, run_id, comparison(load_spec(bundle.prompt / SPEC_FILE), evidence), "evaluation/comparison.png")
    if champion is not None:
        client.set_tag(run_id, tags.COMPARED_WITH, str(champion.version))
        answers = evidence.scorers().get("champion")
        if answers is not None:
            registry.log_metrics(client, run_id, {f"champion/{name}": value for name, value in all_metrics(answers).items()})


def _lineage(bundle: Bundle, order: Order) -> dict[str, str]:
    return {
        "Copied from": f"[{order.profile}, version {bundle.version}]({bundle.url}) at `{bundle.store}`, run `{bundle.run[0]}`",
        "By": f"{order.by}: {order.reason}",
        "Base model": f"{bundle.tags.get(tags.BASE_ID)} (`{bundle.tags.get(tags.BASE_FINGERPRINT, '')[:8]}`)",
        "Data": f"`{bundle.tags.get(tags.DATA_FINGERPRINT, '')[:12]}`",
        "Files": f"`{bundle.tags[tags.CONTENT_FINGERPRINT][:12]}`",
    }


def _version_description(
    bundle: Bundle, order: Order, decision: Decision, evidence: Evidence, experiment: str, run_id: str
) -> str:
    run = record.run_url(experiment, run_id)
    links = {"Run": f"[{run_id[:8]}]({run}), [gates]({run}/artifacts/gates/report.md)", **_lineage(bundle, order)}
    return report.version_description(
        task=bundle.task,
        decision=decision,
        metrics=evidence.metrics(),
        headline=reporting.headline_metrics(evidence),
        slices=evidence.slices(),
        lineage=links,
        usage=reporting.usage(bundle.task),
    )


def _described(bundle: Bundle, order: Order, spec: PromptSpec, decision: Decision, evidence: Evidence, version: Version) -> str:
    number = version.version
    return report.run_description(
        task=spec.name,
        outcome=decision.outcome,
        reason=decision.verdict,
        decision=decision,
        metrics=evidence.metrics(),
        headline=reporting.headline_metrics(evidence),
        slices=evidence.slices(),
        lineage={"Version": f"[{spec.name} {number}]({record.version_url(spec.name, number)})", **_lineage(bundle, order)},
        notes=reporting.notes_on(evidence),
    )


def _close(client: MlflowClient, version: Version, outcome: Outcome) -> None:
    """End the run of a copy whose process died after the decision."""
    run = client.get_run(version.run_id)
    if tags.OUTCOME not in run.data.tags:
        registry.finish(client, version.run_id, outcome, version.description)


def _result(
    client: MlflowClient,
    version: Version,
    outcome: Outcome,
    reason: str,
    evidence: Evidence | None = None,
    decision: Decision | None = None,
) -> LifecycleResult:
    experiment = client.get_run(version.run_id).info.experiment_id
    return LifecycleResult(
        task=version.name,
        outcome=outcome,
        reason=reason,
        version=version.version,
        run_id=version.run_id,
        run_url=record.run_url(experiment, version.run_id),
        metric=evidence.headline() if evidence else None,
        scores=reporting.scores(evidence) if evidence else {},
        size_bytes=registry.version_size_bytes(client, version.name, version.version),
        gates=decision.to_text().splitlines()[1:] if decision else (),
    )
