"""Bring versions out of the store of another profile, in a process of its own that is told of that profile alone.

Nothing that fails a check is handed over: files and evidence must be the ones that were registered and decided about.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from softprompt_core.decisions.replay import explain
from softprompt_core.errors import InvalidInput, Outcome, SoftpromptError, Unavailable
from softprompt_core.evaluation.results import EvaluationResults
from softprompt_core.fingerprint import fingerprint, library_fingerprint
from softprompt_core.json_files import read_json, write_json
from softprompt_core.lifecycle.assess import ROWS_FILE
from softprompt_core.lifecycle.resolve import spec_fingerprint
from softprompt_core.masking import masked
from softprompt_core.serving import SPEC_FILE
from softprompt_core.settings.profiles import environment_of
from softprompt_core.soft_prompt import FILE_NAME, SoftPrompt
from softprompt_core.spec import load_spec
from softprompt_core.store import content, tags, versions
from softprompt_core.store.addresses import Addresses
from softprompt_core.store.connection import Store
from softprompt_core.store.failures import in_brief
from softprompt_core.store.versions import Version
from softprompt_core.transfer.snapshot import Snapshot

_TIME_S, _TIME_A_VERSION_S = 300.0, 120.0  # for starting and connecting, and for the files of each version
_ERROR = "error.json"
_AGAIN = "train and decide there again: `softprompt run --force`"


def fetch_all(profile: str, wanted: Sequence[tuple[str, str]], to: Path) -> list[Snapshot | SoftpromptError]:
    """Bring versions, each with its evidence, below ``to``; one that cannot be brought does not stop the others.

    Args:
        profile: of the settings file, where they are.
        wanted: (task, version number or alias).

    Raises:
        InvalidInput: a variable for the other profile names no setting.
        Unavailable: the process that fetches broke.
    """
    write_json(to / "wanted.json", list(map(list, wanted)))
    command = [sys.executable, "-m", __name__, str(to)]
    limit = _TIME_S + _TIME_A_VERSION_S * len(wanted)
    try:
        done = subprocess.run(command, env=environment_of(profile), capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        what = f"reading from there took longer than {limit:.0f} s, and was ended"
        raise Unavailable(what, where=f"profile {profile}", do=f"softprompt --profile {profile} doctor") from None
    if (to / _ERROR).exists():
        raise _read_error(to, profile)
    if done.returncode != 0:
        last = masked((done.stderr.strip().splitlines() or ["no message"])[-1])
        raise Unavailable(
            f"reading from there broke: {last}", where=f"profile {profile}", do=f"softprompt --profile {profile} doctor"
        )
    folders = [to / str(index) for index in range(len(wanted))]
    return [_read_error(folder, profile) if (folder / _ERROR).exists() else Snapshot.load(folder) for folder in folders]


def fetch(store: Store, name: str, which: str, to: Path) -> Snapshot:
    """Bring one version from the store of this process, after checking it.

    Raises:
        InvalidInput: no such version; it was not promoted there, or rolled back; files or evidence are not those that were
            registered and decided about.
    """
    version = versions.find(store, name, which)
    where = f"{name} version {version.version}"
    _require_promoted(version, where)
    run = store.client.get_run(version.run_id)
    metrics = {
        key: [(point.value, point.timestamp, point.step) for point in store.client.get_metric_history(version.run_id, key)]
        for key in run.data.metrics
    }
    snapshot = Snapshot(
        folder=to,
        task=name,
        version=version.version,
        store=masked(store.addresses.models_uri),
        store_id=store_id(store.addresses),
        url=store.version_url(name, version.version),
        tags=dict(version.tags),
        compared_content=_content_of(store, name, run.data.tags.get(tags.COMPARED_WITH)),
        run_id=version.run_id,
        run_name=run.info.run_name or "",
        run_tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=metrics,
    )
    versions.download_whole(store, name, version.version, to / "download").rename(snapshot.files)
    snapshot.artifacts.mkdir(parents=True)
    store.client.download_artifacts(version.run_id, "", str(snapshot.artifacts))
    _check_files(snapshot, where)
    _check_evidence(store, snapshot, where)
    snapshot.save()
    return snapshot


def store_id(addresses: Addresses) -> str:
    """Equal for equal addresses of registered models."""
    return sha256(addresses.models_uri.rstrip("/").encode()).hexdigest()


def _require_promoted(version: Version, where: str) -> None:
    outcome = version.tags.get(tags.OUTCOME)
    if outcome != Outcome.PROMOTED.value:
        state = outcome.replace("_", " ") if outcome else "not decided about yet"
        raise InvalidInput(f"was not promoted there, it is {state}", where=where, do="name a version that was promoted")
    if tags.WITHDRAWN in version.tags:
        raise InvalidInput(f"was {version.tags[tags.WITHDRAWN]}", where=where, do="name a version that stands")


def _content_of(store: Store, name: str, version: str | None) -> str | None:
    try:
        return versions.get(store, name, int(version)).tags.get(tags.CONTENT_FINGERPRINT) if version else None
    except InvalidInput:  # pruned since
        return None


def _check_files(snapshot: Snapshot, where: str) -> None:
    """The files are those that were registered, and say what the version's tags say."""
    registered = snapshot.tags.get(tags.CONTENT_FINGERPRINT)
    if registered is None:
        raise InvalidInput("its files were not fingerprinted when it was registered", where=where, do=_AGAIN)
    if content.content_fingerprint(snapshot.files) != registered:
        raise InvalidInput("its files are not those that were registered", where=where, do=f"restore them, or {_AGAIN}")
    prompt, spec = SoftPrompt.load(snapshot.prompt / FILE_NAME), load_spec(snapshot.prompt / SPEC_FILE)
    checks = [
        ("task", prompt.task, snapshot.task),
        ("task of the spec", spec.name, snapshot.task),
        ("base model", prompt.base.fingerprint, snapshot.tags.get(tags.BASE_FINGERPRINT)),
        ("position", prompt.position, snapshot.tags.get(tags.POSITION)),
        ("length", str(prompt.length), snapshot.tags.get(tags.LENGTH)),
    ]
    # Another release of this library may have keys that the spec of then had not.
    if snapshot.tags.get(tags.LIBRARY_FINGERPRINT) == library_fingerprint():
        checks.append(("spec", spec_fingerprint(spec), snapshot.tags.get(tags.SPEC_FINGERPRINT)))
    for what, in_files, in_tags in checks:
        if in_files != in_tags:
            raise InvalidInput(f"the {what} in its files is {in_files}, in its tags {in_tags}", where=where, do=_AGAIN)


def _check_evidence(store: Store, snapshot: Snapshot, where: str) -> None:
    """The evidence is complete, that which the decision was made on, and that of this version's own training."""
    for tag in (tags.TASK, tags.FINGERPRINT, tags.DATA_FINGERPRINT, tags.BASE_FINGERPRINT):
        if snapshot.run_tags.get(tag) != snapshot.tags.get(tag):
            raise InvalidInput(f"its run is not the one that it was made in: the tags {tag} differ", where=where, do=_AGAIN)
    try:
        stored = read_json(snapshot.evidence)
        answers, rows = EvaluationResults.model_validate(stored).candidate, read_json(snapshot.artifacts / ROWS_FILE)["test"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"its evidence is missing or cannot be read: {type(error).__name__}: {error}", where=where, do=_AGAIN
        ) from None
    if fingerprint(stored) != snapshot.run_tags.get(tags.EVIDENCE_FINGERPRINT):
        raise InvalidInput("its evidence was changed after it was recorded", where=where, do=f"restore it, or {_AGAIN}")
    if len(answers) != len(rows):
        raise InvalidInput(f"its evidence has answers to {len(answers)} of {len(rows)} test rows", where=where, do=_AGAIN)
    replayed = explain(store, snapshot.task, snapshot.version)
    if not replayed.same_verdict:
        raise InvalidInput(
            f"the recorded decision does not follow from its evidence: {replayed.differences[0]}",
            where=where,
            do=f"look at `softprompt gates explain {snapshot.task} {snapshot.version}` there",
        )


def _write_error(folder: Path, error: SoftpromptError) -> None:
    write_json(folder / _ERROR, {"outcome": error.outcome.value, "what": error.what, "where": error.where, "do": error.do})


def _read_error(folder: Path, profile: str) -> SoftpromptError:
    error = read_json(folder / _ERROR)
    kind = Unavailable if error["outcome"] == Outcome.UNAVAILABLE.value else InvalidInput
    return kind(error["what"], where=f"profile {profile}: {error['where'] or ''}".rstrip(": "), do=error["do"])


def _main(to: Path) -> None:
    try:
        store = Store.connect()
    except SoftpromptError as error:
        _write_error(to, error)
        return
    for index, (name, which) in enumerate(json.loads((to / "wanted.json").read_text(encoding="utf-8"))):
        try:
            fetch(store, name, which, to / str(index))
        except SoftpromptError as error:
            _write_error(to / str(index), error)
        except Exception as error:  # a store that died meanwhile; the next version may be in reach again
            _write_error(to / str(index), Unavailable(f"{type(error).__name__}: {in_brief(error)}", where=name, do="try again"))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
