"""Make a version, from a trained prompt or from the files of another one: log a pyfunc model, read it back, register it, and only
then let it be seen. What breaks off on the way stays invisible."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softprompt_core.errors import Unavailable
from softprompt_core.fingerprint import file_digest
from softprompt_core.registry.content import content_fingerprint, retarget
from softprompt_core.registry.runs import has_ended
from softprompt_core.registry.tags import (
    CONTENT_FINGERPRINT,
    DESCRIPTION_LIMIT,
    LOCKS,
    REGISTERED,
    STATUS,
    TASK,
    VERSION_TAG_LIMIT,
    shortened,
)
from softprompt_core.registry.versions import ARTIFACT, Version, get, search

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature

# `mlflow.models.set_model` in a model's code file sets one variable for the whole process.
_SAVING = threading.Lock()


def register(
    client: MlflowClient,
    *,
    run_id: str,
    name: str,
    folder: Path,
    code: Path,
    signature: ModelSignature,
    input_example: Any,
    requirements: Sequence[str],
    description: str,
    tags: Mapping[str, str | None],
) -> Version:
    """Log a pyfunc model under ``run_id`` and register it; returns the very version that was made.

    Every step names its run, model and store. ``mlflow.pyfunc.log_model`` would take them from variables of the process and the
    thread, where training for several tasks in one process mixes them up.

    Args:
        folder: what a version holds: ``soft_prompt.safetensors``, ``spec.yaml``, maybe the two PEFT files.
        code: a models-from-code file; it finds the folder at ``context.artifacts["soft_prompt"]``.
        requirements: pinned (``torch==2.13.0``); nothing is inferred.
        description: markdown; begins with a plain sentence, because lists show it raw. Cut at 5000 characters.
        tags: for the version; None is left out.
    """
    from mlflow.models import Model
    from mlflow.pyfunc import save_model

    def save(model: LoggedModel, scratch: Path) -> Path:
        # MLflow keeps the folder's own name, and `download` must find it again.
        staged, saved = shutil.copytree(folder, scratch / ARTIFACT), scratch / "model"
        with _SAVING:
            save_model(
                path=str(saved),
                python_model=str(code),
                artifacts={ARTIFACT: str(staged)},
                signature=signature,
                input_example=input_example,
                pip_requirements=list(requirements),
                mlflow_model=Model(
                    artifact_path=model.artifact_location, run_id=run_id, model_uuid=model.model_id, model_id=model.model_id
                ),
            )
        for cache in saved.rglob("__pycache__"):
            shutil.rmtree(cache)
        return saved

    return _publish(client, run_id, name, save, description, tags)


def register_copy(
    client: MlflowClient, *, run_id: str, name: str, files: Path, description: str, tags: Mapping[str, str | None]
) -> Version:
    """Register the very files of a version of another store; only what names run and model in MLflow's own file is changed.

    Args:
        files: what ``download_whole`` brought.
    """

    def save(model: LoggedModel, scratch: Path) -> Path:
        saved = shutil.copytree(files, scratch / "model")
        retarget(saved, run_id=run_id, model_id=model.model_id, location=model.artifact_location)
        return saved

    return _publish(client, run_id, name, save, description, tags)


def _publish(
    client: MlflowClient,
    run_id: str,
    name: str,
    save: Callable[[LoggedModel, Path], Path],
    description: str,
    tags: Mapping[str, str | None],
) -> Version:
    from mlflow.entities import LoggedModelOutput

    run = client.get_run(run_id)
    model = client.create_logged_model(run.info.experiment_id, name=ARTIFACT, source_run_id=run_id, params=dict(run.data.params))
    try:
        with tempfile.TemporaryDirectory() as scratch:
            saved = save(model, Path(scratch))
            content = content_fingerprint(saved)
            client.log_model_artifacts(model.model_id, str(saved))
            _require_arrived(client, model.artifact_location, saved)
    except BaseException:
        with suppress(Exception):  # MLflow may be what failed; the first error must not be hidden
            client.finalize_logged_model(model.model_id, "FAILED")
        raise
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])

    _ensure_registered_model(client, name)
    kept = {key: shortened(str(value), VERSION_TAG_LIMIT) for key, value in tags.items() if value is not None}
    made = client.create_model_version(
        name,
        # The model's own place, not `models:/<id>`: that is looked up in the process-wide store, which may be another one.
        source=model.artifact_location,
        run_id=run_id,
        model_id=model.model_id,
        description=shortened(description, DESCRIPTION_LIMIT),
        tags={**kept, CONTENT_FINGERPRINT: content},
    )
    version = int(made.version)
    client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": json.dumps([{"name": name, "version": version}])})
    client.set_model_version_tag(name, str(version), STATUS, REGISTERED)
    with suppress(Exception):  # `softprompt doctor --repair` does it as well
        discard_half_made(client, name, of_run=run_id)
    return get(client, name, version)


@dataclass(frozen=True)
class HalfMade:
    """A version whose registration broke off: without files that are known to be whole, and invisible to every command."""

    name: str
    version: int
    run_id: str


def half_made(client: MlflowClient, name: str | None = None, of_run: str | None = None) -> list[HalfMade]:
    """Versions of this project that nobody will finish: of runs that have ended or whose process is gone, and of ``of_run``."""
    found = []
    for each in search(client, name):
        # A version that somebody else made under the name of a task has none of these tags.
        if each.name == LOCKS or TASK not in each.tags or STATUS in each.tags:
            continue
        if each.run_id != of_run and not has_ended(client, each.run_id or ""):
            continue
        found.append(HalfMade(each.name, int(each.version), each.run_id or ""))
    return found


def discard_half_made(client: MlflowClient, name: str | None = None, of_run: str | None = None) -> list[HalfMade]:
    """Delete what ``half_made`` lists; returns it."""
    found = half_made(client, name, of_run)
    for each in found:
        client.delete_model_version(each.name, str(each.version))
    return found


def _require_arrived(client: MlflowClient, place: str, sent: Path) -> None:
    """Read the files back. Raises Unavailable unless every one of them is there with the content that was sent."""
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory() as scratch:
        there = Path(download_artifacts(place, dst_path=scratch, tracking_uri=client.tracking_uri))
        files = [file.relative_to(sent) for file in sent.rglob("*") if file.is_file()]
        wrong = [
            file.as_posix()
            for file in files
            if not (there / file).is_file() or file_digest(there / file) != file_digest(sent / file)
        ]
    if wrong:
        raise Unavailable(
            f"{len(wrong)} of {len(files)} files did not arrive as they were sent: {', '.join(wrong[:3])}",
            where=place,
            do="look after MLflow's artifact store, then run the task again: what was trained is kept",
        )


def _ensure_registered_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, tags={TASK: name})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
