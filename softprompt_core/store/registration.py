"""Make a version, from a trained prompt or from the files of another one: log a pyfunc model, read it back, register it, and only
then make it visible. An incomplete version stays invisible."""

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
from softprompt_core.store.connection import Store
from softprompt_core.store.content import CONTENT_KEY, content_fingerprint, retarget, seal
from softprompt_core.store.runs import has_ended
from softprompt_core.store.tags import (
    CONTENT_FINGERPRINT,
    DESCRIPTION_LIMIT,
    LOCKS,
    REGISTERED,
    STATUS,
    TASK,
    VERSION_TAG_LIMIT,
    shortened,
)
from softprompt_core.store.versions import ARTIFACT, Version, get

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature

# `mlflow.models.set_model` in a model's code file sets one variable for the whole process.
_SAVING = threading.Lock()


@dataclass(frozen=True)
class PyfuncModel:
    """What a version is made of.

    Attributes:
        folder: the version's files: ``soft_prompt.safetensors``, ``spec.yaml``, maybe the two PEFT files.
        code: a models-from-code file; it finds the folder at ``context.artifacts["soft_prompt"]``.
        requirements: pinned (``torch==2.13.0``); nothing is inferred.
    """

    folder: Path
    code: Path
    signature: ModelSignature
    input_example: Any
    requirements: Sequence[str]


def register(
    store: Store, model: PyfuncModel, *, run_id: str, name: str, description: str, tags: Mapping[str, str | None]
) -> Version:
    """Log a pyfunc model under ``run_id`` and register it; returns the very version that was made.

    Every step names its run, model and store. ``mlflow.pyfunc.log_model`` would take them from variables of the process and the
    thread, where training for several tasks in one process mixes them up.

    Args:
        description: markdown; begins with a plain sentence, because lists show it raw. Cut at 5000 characters.
        tags: for the version; None is left out.
    """
    from mlflow.models import Model
    from mlflow.pyfunc import save_model

    def save(logged: LoggedModel, scratch: Path) -> Path:
        # MLflow keeps the folder's own name, and `download` must find it again.
        staged, saved = shutil.copytree(model.folder, scratch / ARTIFACT), scratch / "model"
        digest = seal(staged)
        model_id = logged.model_id
        with _SAVING:
            save_model(
                path=str(saved),
                python_model=str(model.code),
                artifacts={ARTIFACT: str(staged)},
                signature=model.signature,
                input_example=model.input_example,
                pip_requirements=list(model.requirements),
                metadata={CONTENT_KEY: digest},
                mlflow_model=Model(logged.artifact_location, run_id, model_uuid=model_id, model_id=model_id),
            )
        for cache in saved.rglob("__pycache__"):
            shutil.rmtree(cache)
        return saved

    return _publish(store, run_id, name, save, description, tags)


def register_copy(
    store: Store, *, run_id: str, name: str, files: Path, description: str, tags: Mapping[str, str | None]
) -> Version:
    """Register the very files of a version of another store; only the ids of run and model in MLflow's own file are changed.

    Args:
        files: the folder that ``download_whole`` returned.
    """

    def save(logged: LoggedModel, scratch: Path) -> Path:
        saved = shutil.copytree(files, scratch / "model")
        retarget(saved, run_id=run_id, model_id=logged.model_id, location=logged.artifact_location)
        return saved

    return _publish(store, run_id, name, save, description, tags)


def _publish(
    store: Store,
    run_id: str,
    name: str,
    save: Callable[[LoggedModel, Path], Path],
    description: str,
    tags: Mapping[str, str | None],
) -> Version:
    from mlflow.entities import LoggedModelOutput

    run = store.client.get_run(run_id)
    model = store.client.create_logged_model(
        run.info.experiment_id, name=ARTIFACT, source_run_id=run_id, params=dict(run.data.params)
    )
    try:
        with tempfile.TemporaryDirectory() as scratch:
            saved = save(model, Path(scratch))
            content = content_fingerprint(saved)
            store.client.log_model_artifacts(model.model_id, str(saved))
            _require_arrived(store, model.artifact_location, saved)
    except BaseException:
        with suppress(Exception):  # MLflow may be what failed; the first error must not be hidden
            store.client.finalize_logged_model(model.model_id, "FAILED")
        raise
    store.client.finalize_logged_model(model.model_id, "READY")
    store.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])

    _ensure_registered_model(store, name)
    stored = {key: shortened(str(value), VERSION_TAG_LIMIT) for key, value in tags.items() if value is not None}
    created = store.client.create_model_version(
        name,
        # The model's own address, not `models:/<id>`: that is looked up in the process-wide store, which may be another one.
        source=model.artifact_location,
        run_id=run_id,
        model_id=model.model_id,
        description=shortened(description, DESCRIPTION_LIMIT),
        tags={**stored, CONTENT_FINGERPRINT: content},
    )
    version = int(created.version)
    store.client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": json.dumps([{"name": name, "version": version}])})
    store.client.set_model_version_tag(name, str(version), STATUS, REGISTERED)
    with suppress(Exception):  # `softprompt doctor --repair` does it as well
        delete_incomplete_versions(store, name, of_run=run_id)
    return get(store, name, version)


@dataclass(frozen=True)
class IncompleteVersion:
    """A version whose registration broke off: nobody knows whether its files are whole, and no command shows it."""

    name: str
    version: int
    run_id: str


def incomplete_versions(store: Store, name: str | None = None, of_run: str | None = None) -> list[IncompleteVersion]:
    """Versions of this project that nobody will finish: of runs that have ended or whose process is gone, and of ``of_run``."""
    return [
        IncompleteVersion(version.name, version.version, version.run_id)
        for version in store.reader.versions(name)
        # A version that somebody else made under the name of a task has none of these tags.
        if version.name != LOCKS and TASK in version.tags and STATUS not in version.tags
        if version.run_id == of_run or has_ended(store, version.run_id)
    ]


def delete_incomplete_versions(store: Store, name: str | None = None, of_run: str | None = None) -> list[IncompleteVersion]:
    """Delete what ``incomplete_versions`` lists; returns it."""
    incomplete = incomplete_versions(store, name, of_run)
    for version in incomplete:
        store.client.delete_model_version(version.name, str(version.version))
    return incomplete


def _require_arrived(store: Store, uri: str, sent: Path) -> None:
    """Read the files back. Raises Unavailable unless every one of them is there with the content that was sent."""
    from mlflow.artifacts import download_artifacts

    files = [file.relative_to(sent) for file in sent.rglob("*") if file.is_file()]
    with tempfile.TemporaryDirectory() as scratch:
        stored = Path(download_artifacts(uri, dst_path=scratch, tracking_uri=store.client.tracking_uri))
        wrong = [
            file.as_posix()
            for file in files
            if not (stored / file).is_file() or file_digest(stored / file) != file_digest(sent / file)
        ]
    if wrong:
        raise Unavailable(
            f"{len(wrong)} of {len(files)} files did not arrive as they were sent: {', '.join(wrong[:3])}",
            where=uri,
            do="look after MLflow's artifact store, then run the task again: what was trained is kept",
        )


def _ensure_registered_model(store: Store, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        store.client.create_registered_model(name, tags={TASK: name})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
