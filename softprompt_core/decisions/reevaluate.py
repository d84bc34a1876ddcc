"""Apply a version's gates again, against another champion than the one that they compared with first."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from softprompt_core import gates, settings
from softprompt_core.errors import InvalidInput, Unavailable
from softprompt_core.evaluation.results import EVIDENCE_FILE, EvaluationResults
from softprompt_core.gates import Decision, Policy
from softprompt_core.lifecycle.champion import Champion
from softprompt_core.lifecycle.evaluate import evaluate
from softprompt_core.lifecycle.resolve import resolve
from softprompt_core.lifecycle.workspace import Workspace
from softprompt_core.serving import SPEC_FILE
from softprompt_core.soft_prompt import FILE_NAME
from softprompt_core.spec import PromptSpec, load_spec
from softprompt_core.store import runs, tags, versions
from softprompt_core.store.connection import Store
from softprompt_core.store.versions import Version


@dataclass(frozen=True)
class Candidate:
    """What is known about a version, wherever it is from.

    Attributes:
        where: for messages.
        tags: its fingerprints (``store.tags``).
        folder: its soft prompt and spec, on this machine.
        spec: the spec whose gates apply; its data are read if everyone must be scored again.
        results: what its gates saw; None where that was not kept.
    """

    name: str
    where: str
    tags: Mapping[str, str]
    folder: Path
    spec: PromptSpec
    results: EvaluationResults | None


def reevaluate(store: Store, version: Version, champion: int | None) -> tuple[Decision, EvaluationResults]:
    """What a version's gates say when it is compared with ``champion``, and the results they saw. Raises as ``compare_with``."""
    with scratch_folder(version.name, f"review-{version.version}-") as scratch:
        folder = _files(store, version, scratch / "candidate")
        candidate = Candidate(
            name=version.name,
            where=f"{version.name} version {version.version}",
            tags=version.tags,
            folder=folder,
            spec=load_spec(folder / SPEC_FILE),
            results=stored_results(store, version),
        )
        results = compare_with(store, candidate, champion, scratch)
    return apply_gates(candidate.spec, results), results


def compare_with(store: Store, candidate: Candidate, champion: int | None, scratch: Path) -> EvaluationResults:
    """What candidate, champion and baselines answer to the candidate's test rows.

    The stored answers of both are used if they were given to the same rows, made from the same data by the same spec and scored
    by the same code; else everyone is scored again, on the data that the candidate's spec names.

    Raises:
        InvalidInput: the data or the base are not those any more that the candidate was evaluated with.
        Unavailable: the champion's files cannot be read.
    """
    stored = candidate.results
    if champion is None:
        return (
            stored.model_copy(update=dict(champion=None, champion_problem=None))
            if stored
            else _scored_again(candidate, None, scratch)
        )
    version = versions.get(store, candidate.name, champion)
    folder = _files(store, version, scratch / f"champion-{champion}")
    if stored is not None and _comparable(candidate, version, load_spec(folder / SPEC_FILE)):
        others = stored_results(store, version)
        if others is not None and _same_rows(stored, others):
            answers = others.candidate.model_copy(update={"scorer": "champion"})
            return stored.model_copy(update=dict(champion=answers, champion_problem=None))
    return _scored_again(candidate, Champion(champion, folder), scratch)


def apply_gates(spec: PromptSpec, results: EvaluationResults) -> Decision:
    """The decision of a spec's gates on evaluation results. Pure."""
    policy = Policy(spec.gates, spec.approval)
    return gates.decide(results.candidate, results.champion, policy, results.baselines, results.facts)


def stored_results(store: Store, version: Version) -> EvaluationResults | None:
    """What a version's run keeps; None where it ended before it could be written down, or another release wrote it."""
    values = runs.read_json(store, version.run_id, EVIDENCE_FILE)
    try:
        return None if values is None else EvaluationResults.model_validate(values)
    except (KeyError, TypeError, ValueError):
        return None


def log_again(store: Store, run_id: str, champion: int | None, decision: Decision, results: EvaluationResults) -> None:
    """Keep a later decision beside the first one; ``gates explain`` replays the pair."""
    report = f"gates/again-champion-{champion or 'none'}"
    runs.log_json(store, run_id, decision.model_dump(mode="json"), f"{report}.json")
    runs.log_json(store, run_id, results.model_dump(mode="json"), f"{report}-evidence.json")
    runs.log_text(store, run_id, decision.to_markdown(), f"{report}.md")


@contextmanager
def scratch_folder(name: str, prefix: str) -> Iterator[Path]:
    """A folder among the task's work that is deleted in the end."""
    parent = settings.home() / "work" / name
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as folder:
        yield Path(folder)


def _files(store: Store, version: Version, to: Path) -> Path:
    from mlflow.exceptions import MlflowException

    try:
        return versions.download(store, version.name, version.version, to)
    except (MlflowException, OSError) as error:
        raise Unavailable(
            f"its files cannot be read, and the gates must run again: {str(error).strip().splitlines()[0]}",
            where=f"{version.name} version {version.version}",
            do="make the artifact store reachable from here",
        ) from None


def _comparable(candidate: Candidate, champion: Version, champion_spec: PromptSpec) -> bool:
    """Whether both were evaluated on the same data, with the same templates, by the same code."""

    def deciding(spec: PromptSpec) -> dict[str, Any]:
        return {**spec.data.model_dump(mode="json"), "source": None, "evaluation": spec.evaluation.model_dump(mode="json")}

    equal = (tags.DATA_FINGERPRINT, tags.LIBRARY_FINGERPRINT)
    same = all(candidate.tags.get(tag) == champion.tags.get(tag) is not None for tag in equal)
    return same and deciding(candidate.spec) == deciding(champion_spec)


def _same_rows(results: EvaluationResults, other: EvaluationResults) -> bool:
    a, b = results.candidate, other.candidate
    return (a.ids, a.gold, a.labels, dict(a.slices)) == (b.ids, b.gold, b.labels, dict(b.slices))


def _scored_again(candidate: Candidate, champion: Champion | None, scratch: Path) -> EvaluationResults:
    task = resolve(candidate.spec)
    for what, now, tag in (
        ("data", task.fingerprints.data, tags.DATA_FINGERPRINT),
        ("base model", task.base.fingerprint, tags.BASE_FINGERPRINT),
    ):
        if now != candidate.tags.get(tag):
            raise InvalidInput(
                f"the gates must run again, but the {what} is not what it was evaluated with any more",
                where=candidate.where,
                do="run the task again: `softprompt run` trains and judges with what is there now",
            )
    # In a folder of its own: a lifecycle of the same task may be at work in the usual one.
    apart = Workspace(scratch / "work")
    shutil.copytree(task.workspace.data, apart.data)
    results = evaluate(replace(task, workspace=apart), candidate.folder / FILE_NAME, champion)
    if candidate.results is None:
        return results
    # What is known about the training stays as it was stored; everyone's answers are those given now.
    return results.model_copy(update=dict(facts=candidate.results.facts, seeds=candidate.results.seeds))
