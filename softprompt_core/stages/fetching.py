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
from typing import TYPE_CHECKING

from softprompt_core import registry
from softprompt_core.errors import InvalidInput, Outcome, SoftpromptError, Unavailable
from softprompt_core.fingerprint import fingerprint, library_fingerprint
from softprompt_core.profiles import environment_of
from softprompt_core.registry import Stores, Version, masked, tags
from softprompt_core.serving import SPEC_FILE
from softprompt_core.soft_prompt import FILE_NAME, SoftPrompt
from softprompt_core.spec import load_spec
from softprompt_core.stages import record
from softprompt_core.stages.bundle import Bundle
from softprompt_core.stages.comparing import resolve_version
from softprompt_core.stages.evidence import Evidence
from softprompt_core.stages.explaining import explain
from softprompt_core.stages.gate_report import ROWS
from softprompt_core.stages.inputs import spec_fingerprint
from softprompt_core.stages.workspace import read_json, write_json

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ERROR = "error.json"
_AGAIN = "train and decide there again: `softprompt run --force`"


def fetch_all(profile: str, wanted: Sequence[tuple[str, str]], to: Path) -> list[Bundle | SoftpromptError]:
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
    done = subprocess.run(command, env=environment_of(profile), capture_output=True, text=True)
    if (to / _ERROR).exists():
        raise _read_error(to, profile)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Unavailable(
            f"reading from there broke: {last}", where=f"profile {profile}", do=f"softprompt --profile {profile} doctor"
        )
    places = [to / str(place) for place in range(len(wanted))]
    return [_read_error(place, profile) if (place / _ERROR).exists() else Bundle.load(place) for place in places]


def fetch(client: MlflowClient, stores: Stores, name: str, which: str, to: Path) -> Bundle:
    """Bring one version from the store of this process, after checking it.

    Raises:
        InvalidInput: no such version; it was not promoted there, or rolled back; files or evidence are not those that were
            registered and decided about.
    """
    version = resolve_version(client, name, which)
    where = f"{name} version {version.version}"
    _require_promoted(version, where)
    run = client.get_run(version.run_id)
    metrics = {
        key: [(point.value, point.timestamp, point.step) for point in client.get_metric_history(version.run_id, key)]
        for key in run.data.metrics
    }
    found = Bundle(
        folder=to,
        task=name,
        version=version.version,
        store=masked(stores.models_uri),
        store_id=store_id(stores),
        url=record.version_url(name, version.version),
        tags=dict(version.tags),
        compared_content=_content_of(client, name, run.data.tags.get(tags.COMPARED_WITH)),
        run=(version.run_id, run.info.run_name or ""),
        run_tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=metrics,
    )
    registry.download_whole(client, name, version.version, to / "download").rename(found.files)
    found.artifacts.mkdir(parents=True)
    client.download_artifacts(version.run_id, "", str(found.artifacts))
    _check_files(found, where)
    _check_evidence(client, found, where)
    found.save()
    return found


def store_id(stores: Stores) -> str:
    """Equal for equal addresses of registered models."""
    return sha256(stores.models_uri.rstrip("/").encode()).hexdigest()


def _require_promoted(version: Version, where: str) -> None:
    outcome = version.tags.get(tags.OUTCOME)
    if outcome != Outcome.PROMOTED.value:
        state = outcome.replace("_", " ") if outcome else "not decided about yet"
        raise InvalidInput(f"was not promoted there, it is {state}", where=where, do="name a version that was promoted")
    if tags.WITHDRAWN in version.tags:
        raise InvalidInput(f"was {version.tags[tags.WITHDRAWN]}", where=where, do="name a version that stands")


def _content_of(client: MlflowClient, name: str, version: str | None) -> str | None:
    try:
        return registry.get(client, name, int(version)).tags.get(tags.CONTENT_FINGERPRINT) if version else None
    except InvalidInput:  # pruned since
        return None


def _check_files(found: Bundle, where: str) -> None:
    """The files are those that were registered, and say what the version's tags say."""
    registered = found.tags.get(tags.CONTENT_FINGERPRINT)
    if registered is None:
        raise InvalidInput("its files were not fingerprinted when it was registered", where=where, do=_AGAIN)
    if registry.content_fingerprint(found.files) != registered:
        raise InvalidInput("its files are not those that were registered", where=where, do=f"restore them, or {_AGAIN}")
    prompt, spec = SoftPrompt.load(found.prompt / FILE_NAME), load_spec(found.prompt / SPEC_FILE)
    said = [
        ("task", prompt.task, found.task),
        ("task of the spec", spec.name, found.task),
        ("base model", prompt.base.fingerprint, found.tags.get(tags.BASE_FINGERPRINT)),
        ("position", prompt.position, found.tags.get(tags.POSITION)),
        ("length", str(prompt.length), found.tags.get(tags.LENGTH)),
    ]
    # Another release of this library may have keys that the spec of then had not.
    if found.tags.get(tags.LIBRARY_FINGERPRINT) == library_fingerprint():
        said.append(("spec", spec_fingerprint(spec), found.tags.get(tags.SPEC_FINGERPRINT)))
    for what, in_files, in_tags in said:
        if in_files != in_tags:
            raise InvalidInput(f"the {what} in its files is {in_files}, in its tags {in_tags}", where=where, do=_AGAIN)


def _check_evidence(client: MlflowClient, found: Bundle, where: str) -> None:
    """The evidence is complete, that which the decision was made on, and that of this version's own training."""
    for tag in (tags.TASK, tags.FINGERPRINT, tags.DATA_FINGERPRINT, tags.BASE_FINGERPRINT):
        if found.run_tags.get(tag) != found.tags.get(tag):
            raise InvalidInput(f"its run is not the one that it was made in: the tags {tag} differ", where=where, do=_AGAIN)
    try:
        written = read_json(found.evidence)
        answers, rows = Evidence.from_json(written).candidate, read_json(found.artifacts / ROWS)["test"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"its evidence is missing or cannot be read: {type(error).__name__}: {error}", where=where, do=_AGAIN
        ) from None
    if fingerprint(written) != found.run_tags.get(tags.EVIDENCE_FINGERPRINT):
        raise InvalidInput("its evidence was changed after it was recorded", where=where, do=f"restore it, or {_AGAIN}")
    if len(answers) != len(rows):
        raise InvalidInput(f"its evidence has answers to {len(answers)} of {len(rows)} test rows", where=where, do=_AGAIN)
    told = explain(client, found.task, found.version)
    if not told.same:
        raise InvalidInput(
            f"the recorded decision does not follow from its evidence: {told.differences[0]}",
            where=where,
            do=f"look at `softprompt gates explain {found.task} {found.version}` there",
        )


def _write_error(place: Path, error: SoftpromptError) -> None:
    write_json(place / _ERROR, {"outcome": error.outcome.value, "what": error.what, "where": error.where, "do": error.do})


def _read_error(place: Path, profile: str) -> SoftpromptError:
    found = read_json(place / _ERROR)
    kind = Unavailable if found["outcome"] == Outcome.UNAVAILABLE.value else InvalidInput
    return kind(found["what"], where=f"profile {profile}: {found['where'] or ''}".rstrip(": "), do=found["do"])


def _main(to: Path) -> None:
    try:
        client, stores = record.client(), record.stores()
    except SoftpromptError as error:
        _write_error(to, error)
        return
    for place, (name, which) in enumerate(json.loads((to / "wanted.json").read_text(encoding="utf-8"))):
        try:
            fetch(client, stores, name, which, to / str(place))
        except SoftpromptError as error:
            _write_error(to / str(place), error)
        except Exception as error:  # a store that died meanwhile; the next version may be in reach again
            first = masked((str(error).strip() or "no message").splitlines()[0])
            _write_error(to / str(place), Unavailable(f"{type(error).__name__}: {first}", where=name, do="try again"))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
