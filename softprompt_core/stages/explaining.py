"""Replay a stored decision: the evidence and the policy that are kept with a version must lead to the verdict kept there."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softprompt_core import registry
from softprompt_core.errors import InvalidInput
from softprompt_core.fingerprint import fingerprint
from softprompt_core.gates import Decision
from softprompt_core.registry import Version
from softprompt_core.serving import SPEC_FILE
from softprompt_core.spec import load_spec
from softprompt_core.stages.evidence import DECISION_FILE, EVIDENCE_FILE, Evidence
from softprompt_core.stages.promotion import judge
from softprompt_core.stages.workspace import read_json

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Explanation:
    """A stored decision beside the one that its evidence leads to now.

    Attributes:
        differences: what is not the same, a sentence each: verdict, a gate's status, or the ledger's hash of the decision.
        notes: what differs without changing the verdict, such as numbers in their last digits after an update of a library.
    """

    version: Version
    stored: Decision
    replayed: Decision
    evidence: Evidence
    differences: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def same(self) -> bool:
        return not self.differences

    def to_json(self) -> dict[str, Any]:
        return dict(
            task=self.version.name,
            version=self.version.version,
            run_id=self.version.run_id,
            same_verdict=self.same,
            differences=list(self.differences),
            notes=list(self.notes),
            stored=self.stored.to_json(),
            replayed=self.replayed.to_json(),
            seeds=self.evidence.to_json()["seeds"],
            facts=dict(self.evidence.facts),
        )


def explain(client: MlflowClient, name: str, version: int) -> Explanation:
    """Read policy, evidence and decision of a version from MLflow, and decide again. Neither data, base nor prompt is needed.

    Raises:
        InvalidInput: there is no such version, or what its decision rests on was not stored, or was changed beyond reading.
    """
    found = registry.get(client, name, version)
    with tempfile.TemporaryDirectory() as place:
        spec = load_spec(registry.download(client, name, version, Path(place)) / SPEC_FILE)
        recorded = _recorded(client, found)
        stored, evidence = _decided(client, found, recorded, Path(place))
    replayed = judge(spec, evidence)
    differences, notes = _compared(stored, replayed)
    if recorded is None:
        notes.append("the ledger has no entry for this version yet")
    elif fingerprint(stored.to_json()) != recorded:
        differences.append("the ledger names another decision than the stored one: it was changed after it was recorded")
    return Explanation(found, stored, replayed, evidence, tuple(differences), tuple(notes))


def _recorded(client: MlflowClient, version: Version) -> str | None:
    """The hash of the last decision about a version that the ledger names; None without an entry."""
    entries = reversed(registry.history(client, version.name))
    about = (e for e in entries if e.candidate == version.version and e.evidence.run_id == version.run_id)
    return next((e.evidence.report for e in about if e.status != "superseded"), None)


def _decided(client: MlflowClient, version: Version, recorded: str | None, place: Path) -> tuple[Decision, Evidence]:
    """The stored decision that the ledger names, and its evidence.

    Gates that run again later, because the champion moved before a person approved, leave a second pair in the run:
    ``gates/<any name>.json`` and ``gates/<any name>-evidence.json``.
    """
    files = [item.path for item in client.list_artifacts(version.run_id, "gates") if item.path.endswith(".json")]
    for file in files:
        beside = file.removesuffix(".json") + "-evidence.json"
        if beside in files:
            again: Decision = _read(client, version, file, place, Decision.from_json)
            if fingerprint(again.to_json()) == recorded:
                return again, _read(client, version, beside, place, Evidence.from_json)
    stored: Decision = _read(client, version, DECISION_FILE, place, Decision.from_json)
    return stored, _read(client, version, EVIDENCE_FILE, place, Evidence.from_json)


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


def _read(client: MlflowClient, version: Version, file: str, place: Path, parse: Any) -> Any:
    from mlflow.exceptions import MlflowException

    where = f"{version.name} version {version.version}, run {version.run_id}, {file}"
    again = "evaluate and decide again: `softprompt run --force`"
    try:
        return parse(read_json(Path(client.download_artifacts(version.run_id, file, str(place)))))
    except (MlflowException, OSError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InvalidInput(f"the record of this decision is not there: {first}", where=where, do=again) from None
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"cannot be read, so it was changed or broken: {type(error).__name__}: {error}",
            where=where,
            do=f"restore the artifact, or {again}",
        ) from None
