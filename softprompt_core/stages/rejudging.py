"""Let the gates of a version compare it with another champion than the one that they saw first."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softprompt_core import registry
from softprompt_core.errors import InvalidInput, Unavailable
from softprompt_core.gates import Decision
from softprompt_core.registry import Version, tags
from softprompt_core.serving import SPEC_FILE
from softprompt_core.soft_prompt import FILE_NAME
from softprompt_core.spec import PromptSpec, load_spec
from softprompt_core.stages.evaluation import evaluate
from softprompt_core.stages.evidence import EVIDENCE_FILE, Evidence
from softprompt_core.stages.inputs import gather
from softprompt_core.stages.promotion import judge
from softprompt_core.stages.workspace import Workspace, home

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Candidate:
    """What is known about a version, wherever it is from.

    Attributes:
        where: for messages.
        tags: its fingerprints (``registry.tags``).
        folder: its soft prompt and spec, on this machine.
        spec: the spec to judge by; its data are read if everyone must be scored again.
        evidence: what its gates saw; None where that was not kept.
    """

    name: str
    where: str
    tags: Mapping[str, str]
    folder: Path
    spec: PromptSpec
    evidence: Evidence | None


def judge_again(client: MlflowClient, version: Version, champion: int | None) -> tuple[Decision, Evidence]:
    """``judge_against`` for a version that is registered. Raises as it does."""
    with scratch_folder(version.name, f"review-{version.version}-") as scratch:
        folder = _files(client, version, scratch / "candidate")
        where = f"{version.name} version {version.version}"
        stored = _stored_evidence(client, version, scratch)
        spec = load_spec(folder / SPEC_FILE)
        return judge_against(client, Candidate(version.name, where, version.tags, folder, spec, stored), champion, scratch)


def judge_against(client: MlflowClient, candidate: Candidate, champion: int | None, scratch: Path) -> tuple[Decision, Evidence]:
    """What the gates of a candidate say when it is compared with ``champion`` on its test rows, and the evidence they saw.

    The stored answers of both are used if they were given to the same rows, made from the same data by the same spec and scored
    by the same source; else everyone is scored again, on the data that the candidate's spec names.

    Raises:
        InvalidInput: the data or the base are not those any more that the candidate was evaluated with.
        Unavailable: the champion's files cannot be read.
    """
    evidence = _evidence(client, candidate, champion, scratch)
    return judge(candidate.spec, evidence), evidence


def _evidence(client: MlflowClient, candidate: Candidate, champion: int | None, scratch: Path) -> Evidence:
    stored = candidate.evidence
    if champion is None:
        if stored is not None:
            return replace(stored, champion=None, champion_problem=None)
        return _scored_again(candidate, None, scratch)
    other = registry.get(client, candidate.name, champion)
    theirs = _files(client, other, scratch / f"champion-{champion}")
    others = load_spec(theirs / SPEC_FILE)
    if stored is not None and _comparable(candidate.tags, other.tags, candidate.spec, others):
        found = _stored_evidence(client, other, scratch)
        if found is not None and _same_rows(stored, found):
            return replace(stored, champion=replace(found.candidate, scorer="champion"), champion_problem=None)
    return _scored_again(candidate, theirs, scratch)


def log_again(client: MlflowClient, run_id: str, champion: int | None, decision: Decision, seen: Evidence) -> None:
    """Keep a later decision beside the first one; ``gates explain`` replays the pair."""
    report = f"gates/again-champion-{champion or 'none'}"
    registry.log_json(client, run_id, decision.to_json(), f"{report}.json")
    registry.log_json(client, run_id, seen.to_json(), f"{report}-evidence.json")
    registry.log_text(client, run_id, decision.to_markdown(), f"{report}.md")


@contextmanager
def scratch_folder(name: str, prefix: str) -> Iterator[Path]:
    """A folder among the task's work that is deleted in the end."""
    place = home() / "work" / name
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=place) as folder:
        yield Path(folder)


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


def _comparable(ours: Mapping[str, str], theirs: Mapping[str, str], spec: PromptSpec, others: PromptSpec) -> bool:
    """Whether both were evaluated on the same data, in the same words, by the same source."""
    same = all(ours.get(tag) == theirs.get(tag) is not None for tag in (tags.DATA_FINGERPRINT, tags.LIBRARY_FINGERPRINT))

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

    place = scratch / f"evidence-{version.version}"
    try:
        file = download_artifacts(
            run_id=version.run_id, artifact_path=EVIDENCE_FILE, dst_path=str(place), tracking_uri=client.tracking_uri
        )
        return Evidence.load(Path(file))
    except (MlflowException, OSError, KeyError, TypeError, ValueError):
        return None


def _scored_again(candidate: Candidate, champion: Path | None, scratch: Path) -> Evidence:
    inputs = gather(candidate.spec)
    for what, now, tag in (
        ("data", inputs.data, tags.DATA_FINGERPRINT),
        ("base model", inputs.base.fingerprint, tags.BASE_FINGERPRINT),
    ):
        if now != candidate.tags.get(tag):
            raise InvalidInput(
                f"the gates must run again, but the {what} is not what it was evaluated with any more",
                where=candidate.where,
                do="run the task again: `softprompt run` trains and judges with what is there now",
            )
    # In a folder of its own: a lifecycle of the same task may be at work in the usual one.
    place = Workspace(scratch / "work")
    shutil.copytree(inputs.workspace.data, place.data)
    apart = replace(inputs, folder=str(place.folder))
    found = Evidence.load(evaluate(candidate.spec, apart, candidate.folder / FILE_NAME, champion))
    if candidate.evidence is None:
        return found
    # What is known about the training stays as it was stored; everyone's answers are those given now.
    return replace(
        candidate.evidence,
        candidate=found.candidate,
        champion=found.champion,
        champion_problem=found.champion_problem,
        baselines=found.baselines,
        hard_prompt=found.hard_prompt,
    )
