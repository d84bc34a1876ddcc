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
from softprompt_core.base_model.loading import load_base
from softprompt_core.data import Example, row_hashes
from softprompt_core.errors import InvalidInput, Unavailable
from softprompt_core.evaluation.results import EVIDENCE_FILE, EvaluationResults
from softprompt_core.evaluation.scoring import Scorer
from softprompt_core.fingerprint import library_fingerprint
from softprompt_core.gates import Decision, Policy
from softprompt_core.lifecycle.assess import ROWS_FILE
from softprompt_core.lifecycle.champion import Champion, with_files
from softprompt_core.lifecycle.evaluate import champion_answers, evaluate, no_answers
from softprompt_core.lifecycle.resolve import resolve
from softprompt_core.lifecycle.tracking.run import EXAMPLES_FILE
from softprompt_core.lifecycle.workspace import Workspace
from softprompt_core.serving import SPEC_FILE
from softprompt_core.soft_prompt import FILE_NAME, SoftPrompt
from softprompt_core.spec import PromptSpec, load_spec
from softprompt_core.store import run_contents, tags, versions
from softprompt_core.store.connection import Store
from softprompt_core.store.failures import in_brief
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
        rows: the test rows that they are about; None where those were not kept as they were.
    """

    name: str
    where: str
    tags: Mapping[str, str]
    folder: Path
    spec: PromptSpec
    results: EvaluationResults | None
    rows: tuple[Example, ...] | None = None


def reevaluate(store: Store, version: Version, champion: int | None, *, score: bool = True) -> tuple[Decision, EvaluationResults]:
    """What a version's gates say when it is compared with ``champion``, and the results they saw.

    Args:
        score: whether somebody may be scored for it; without, only stored answers are compared.

    Raises:
        InvalidInput, Unavailable: as ``compare_with``.
    """
    with scratch_folder(version.name, f"review-{version.version}-") as scratch:
        folder = _files(store, version, scratch / "candidate")
        stored = stored_results(store, version)
        candidate = Candidate(
            name=version.name,
            where=f"{version.name} version {version.version}",
            tags=version.tags,
            folder=folder,
            spec=load_spec(folder / SPEC_FILE),
            results=stored,
            rows=None if stored is None else stored_rows(store, version, stored),
        )
        results = compare_with(store, candidate, champion, scratch, score=score)
    return apply_gates(candidate.spec, results), results


def compare_with(
    store: Store, candidate: Candidate, champion: int | None, scratch: Path, *, score: bool = True
) -> EvaluationResults:
    """What candidate, champion and baselines answer to the candidate's test rows.

    The stored answers of both are used if they were given to the same rows, made from the same data by the same spec and scored
    by the same code. Else the champion is scored on the test rows that the candidate's run keeps (and the candidate again, if the
    code is another by now); where those were not kept everyone is scored again, on the data that the candidate's spec names.
    A champion whose files are gone or damaged has no answers, and every gate against it fails.

    Raises:
        InvalidInput: the data or the base are not those any more that the candidate was evaluated with; or somebody would have
            to be scored, and ``score`` forbids it.
        Unavailable: MLflow does not answer.
    """
    stored = candidate.results
    if champion is None and stored is not None:
        return stored.model_copy(update=dict(champion=None, champion_problem=None))
    against = None
    if champion is not None:
        version = versions.get(store, candidate.name, champion)
        against = with_files(store, version, scratch / f"champion-{champion}")
        if stored is not None and against.problem is not None:
            nothing = no_answers(candidate.spec, stored.candidate.labels)
            return stored.model_copy(update=dict(champion=nothing, champion_problem=against.problem))
        if stored is not None and _comparable(candidate, version, load_spec(against.folder / SPEC_FILE)):
            others = stored_results(store, version)
            if others is not None and _same_rows(stored, others):
                answers = others.candidate.model_copy(update={"scorer": "champion"})
                return stored.model_copy(update=dict(champion=answers, champion_problem=None))
    if not score:
        what = "its run holds no evidence" if stored is None else "the stored answers cannot be compared with the champion's"
        raise InvalidInput(what, where=candidate.where, do="run the task again")
    return _scored_again(candidate, against, scratch)


def apply_gates(spec: PromptSpec, results: EvaluationResults) -> Decision:
    """The decision of a spec's gates on evaluation results. Pure."""
    policy = Policy(spec.gates, spec.approval)
    problem = results.champion_problem
    return gates.decide(results.candidate, results.champion, policy, results.baselines, results.facts, problem)


def stored_results(store: Store, version: Version) -> EvaluationResults | None:
    """What a version's run keeps; None where it ended before it could be written down, or another release wrote it."""
    values = run_contents.read_json(store, version.run_id, EVIDENCE_FILE)
    try:
        return None if values is None else EvaluationResults.model_validate(values)
    except (KeyError, TypeError, ValueError):
        return None


def stored_inputs(table: Any) -> dict[str, str]:
    """Row id → input text, from the table of answers that a run keeps; empty without one."""
    if table is None:
        return {}
    id_column, input_column = (table["columns"].index(column) for column in ("id", "input"))
    return {str(row[id_column]): str(row[input_column]) for row in table["data"]}


def stored_rows(store: Store, version: Version, results: EvaluationResults) -> tuple[Example, ...] | None:
    """The test rows that a version's results are about; None unless its run keeps every one of them as it was."""
    table, hashes = (run_contents.read_json(store, version.run_id, file) for file in (EXAMPLES_FILE, ROWS_FILE))
    return rows_of(results, table, hashes)


def rows_of(results: EvaluationResults, table: Any, hashes: Any) -> tuple[Example, ...] | None:
    """As ``stored_rows``, from what the files ``EXAMPLES_FILE`` and ``ROWS_FILE`` hold."""
    inputs, answers = stored_inputs(table), results.candidate
    if hashes is None or not set(answers.ids) <= inputs.keys():
        return None
    flags = answers.slices.items()
    rows = tuple(
        Example(row, inputs[row], gold, frozenset(name for name, of_rows in flags if of_rows[index]))
        for index, (row, gold) in enumerate(zip(answers.ids, answers.gold, strict=True))
    )
    return rows if row_hashes({"test": rows})["test"] == hashes.get("test") else None


def log_again(store: Store, run_id: str, champion: int | None, decision: Decision, results: EvaluationResults) -> None:
    """Keep a later decision beside the first one; ``gates explain`` replays the pair."""
    report = f"gates/again-champion-{champion or 'none'}"
    run_contents.log_json(store, run_id, decision.model_dump(mode="json"), f"{report}.json")
    run_contents.log_json(store, run_id, results.model_dump(mode="json"), f"{report}-evidence.json")
    run_contents.log_text(store, run_id, decision.to_markdown(), f"{report}.md")


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
            f"its files cannot be read, and the gates must run again: {in_brief(error)}",
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
    if candidate.results is not None and candidate.rows is not None:
        return _scored_on_stored_rows(candidate, candidate.results, candidate.rows, champion)
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


def _scored_on_stored_rows(
    candidate: Candidate, results: EvaluationResults, rows: tuple[Example, ...], champion: Champion | None
) -> EvaluationResults:
    """The champion's answers to the candidate's own test rows; data that have changed since play no part."""
    spec, answers, baselines = candidate.spec, results.candidate, dict(results.baselines)
    scorer = Scorer(load_base(spec.base_model), spec, rows, answers.labels)
    if candidate.tags.get(tags.LIBRARY_FINGERPRINT) != library_fingerprint():
        answers = scorer.soft(SoftPrompt.load(candidate.folder / FILE_NAME), "candidate")
        baselines["hard_prompt"] = scorer.hard(results.hard_prompt)
    of_champion, problem = (None, None) if champion is None else champion_answers(spec, scorer, champion)
    changes = dict(candidate=answers, champion=of_champion, champion_problem=problem, baselines=baselines)
    return results.model_copy(update=changes)
