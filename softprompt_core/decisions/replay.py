"""Replay a stored decision: the evidence and the policy that are kept with a version must lead to the verdict kept there."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, computed_field

from softprompt_core.decisions.reevaluate import apply_gates
from softprompt_core.errors import InvalidInput
from softprompt_core.evaluation.results import DECISION_FILE, EVIDENCE_FILE, EvaluationResults, SeedScore
from softprompt_core.fingerprint import fingerprint
from softprompt_core.gates import Decision
from softprompt_core.json_files import read_json
from softprompt_core.serving import SPEC_FILE
from softprompt_core.spec import load_spec
from softprompt_core.store import versions
from softprompt_core.store.connection import Store
from softprompt_core.store.failures import in_brief
from softprompt_core.store.ledger import entries
from softprompt_core.store.versions import Version


class Explanation(BaseModel):
    """A stored decision beside the one that its evidence leads to now.

    Attributes:
        differences: what is not the same, a sentence each: verdict, a gate's status, or the ledger's hash of the decision.
        notes: what differs without changing the verdict, such as numbers in their last digits after an update of a library.
        seeds, facts: from the evidence.
    """

    model_config = ConfigDict(frozen=True)

    task: str
    version: int
    run_id: str
    differences: tuple[str, ...]
    notes: tuple[str, ...]
    stored: Decision
    replayed: Decision
    seeds: tuple[SeedScore, ...]
    facts: Mapping[str, int | float]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def same_verdict(self) -> bool:
        return not self.differences


def explain(store: Store, name: str, version: int) -> Explanation:
    """Read policy, evidence and decision of a version from MLflow, and decide again. Neither data, base nor prompt is needed.

    Raises:
        InvalidInput: there is no such version, or what its decision rests on was not stored, or was changed beyond reading.
    """
    decided = versions.get(store, name, version)
    recorded = _recorded(store, decided)
    with tempfile.TemporaryDirectory() as scratch:
        spec = load_spec(versions.download(store, name, version, Path(scratch)) / SPEC_FILE)
        stored, evidence = _stored(store, decided, recorded, Path(scratch))
    replayed = apply_gates(spec, evidence)
    differences, notes = _compared(stored, replayed)
    if recorded is None:
        notes.append("the ledger has no entry for this version yet")
    elif fingerprint(stored.model_dump(mode="json")) != recorded:
        differences.append("the ledger names another decision than the stored one: it was changed after it was recorded")
    return Explanation(
        task=name,
        version=version,
        run_id=decided.run_id,
        differences=tuple(differences),
        notes=tuple(notes),
        stored=stored,
        replayed=replayed,
        seeds=evidence.seeds,
        facts=evidence.facts,
    )


def _recorded(store: Store, version: Version) -> str | None:
    """The hash of the last decision about a version that the ledger names; None without an entry."""
    newest_first = reversed(entries.history(store, version.name))
    about = (e for e in newest_first if e.candidate == version.version and e.evidence.run_id == version.run_id)
    return next((e.evidence.report for e in about if e.status != "superseded"), None)


def _stored(store: Store, version: Version, recorded: str | None, scratch: Path) -> tuple[Decision, EvaluationResults]:
    """The stored decision that the ledger names, and its evidence.

    Gates that run again later, because the champion moved before a person approved, leave a second pair in the run:
    ``gates/<any name>.json`` and ``gates/<any name>-evidence.json``.
    """
    files = [item.path for item in store.client.list_artifacts(version.run_id, "gates") if item.path.endswith(".json")]
    for file in files:
        beside = file.removesuffix(".json") + "-evidence.json"
        if beside in files:
            again: Decision = _read(store, version, file, scratch, Decision.model_validate)
            if fingerprint(again.model_dump(mode="json")) == recorded:
                return again, _read(store, version, beside, scratch, EvaluationResults.model_validate)
    stored: Decision = _read(store, version, DECISION_FILE, scratch, Decision.model_validate)
    return stored, _read(store, version, EVIDENCE_FILE, scratch, EvaluationResults.model_validate)


def _compared(stored: Decision, replayed: Decision) -> tuple[list[str], list[str]]:
    differences = []
    if (stored.passed, stored.outcome) != (replayed.passed, replayed.outcome):
        differences.append(f"the verdict was {stored.outcome.value} and is {replayed.outcome.value} now")
    before, now = ([(r.slice if is_part else r.gate, r.status) for is_part, r in d.lines()] for d in (stored, replayed))
    if len(before) != len(now):
        differences.append(f"{len(before)} gates and slices were checked, {len(now)} are now")
    else:
        pairs = zip(before, now, strict=True)
        differences += [f"{gate}: was {was}, is {status} now" for (gate, was), (_, status) in pairs if was != status]
    if not differences and stored != replayed:
        return [], ["numbers or words differ from the stored report: it was made by another release"]
    return differences, []


def _read(store: Store, version: Version, file: str, scratch: Path, parse: Any) -> Any:
    from mlflow.exceptions import MlflowException

    where = f"{version.name} version {version.version}, run {version.run_id}, {file}"
    again = "evaluate and decide again: `softprompt run --force`"
    try:
        return parse(read_json(Path(store.client.download_artifacts(version.run_id, file, str(scratch)))))
    except (MlflowException, OSError) as error:
        raise InvalidInput(f"the record of this decision is not there: {in_brief(error)}", where=where, do=again) from None
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"cannot be read, so it was changed or broken: {type(error).__name__}: {error}",
            where=where,
            do=f"restore the artifact, or {again}",
        ) from None
