"""Versions of a registered model: a soft prompt, its spec and the code that serves it, with no base weights."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from softprompt_core.errors import InvalidInput, Outcome
from softprompt_core.registry.tags import (
    APPROVAL_EXPIRES,
    DECIDED_AT,
    DESCRIPTION_LIMIT,
    OUTCOME,
    REGISTERED,
    STATUS,
    TASK,
    VERSION_TAG_LIMIT,
    shortened,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel
    from mlflow.models import ModelSignature

APPROVAL_TIME = timedelta(days=14)  # where the spec said nothing

_ARTIFACT = "soft_prompt"

# `mlflow.models.set_model` in a model's code file sets one variable for the whole process.
_SAVING = threading.Lock()


@dataclass(frozen=True)
class Version:
    """One finished version. ``created`` is UTC."""

    name: str
    version: int
    run_id: str
    created: datetime
    tags: Mapping[str, str]
    aliases: tuple[str, ...]
    description: str

    @property
    def awaits_approval(self) -> bool:
        return self.tags.get(OUTCOME) == Outcome.AWAITING_APPROVAL.value

    @property
    def decided_at(self) -> datetime:
        """When the last decision about it was made, UTC; when it was made, if there was none."""
        return _time(self.tags.get(DECIDED_AT)) or self.created

    @property
    def approval_expires(self) -> datetime:
        """Until when it may be approved, UTC."""
        return _time(self.tags.get(APPROVAL_EXPIRES)) or self.decided_at + APPROVAL_TIME

    def approval_expired(self) -> bool:
        """Whether it waited for approval until it was too late."""
        return self.awaits_approval and datetime.now(UTC) >= self.approval_expires


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
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model
    from mlflow.pyfunc import save_model

    run = client.get_run(run_id)
    model = client.create_logged_model(run.info.experiment_id, name=_ARTIFACT, source_run_id=run_id, params=dict(run.data.params))
    try:
        with tempfile.TemporaryDirectory() as scratch:
            # MLflow keeps the folder's own name, and `download` must find it again.
            staged = shutil.copytree(folder, Path(scratch) / _ARTIFACT)
            saved = Path(scratch) / "model"
            with _SAVING:
                save_model(
                    path=str(saved),
                    python_model=str(code),
                    artifacts={_ARTIFACT: str(staged)},
                    signature=signature,
                    input_example=input_example,
                    pip_requirements=list(requirements),
                    mlflow_model=Model(
                        artifact_path=model.artifact_location, run_id=run_id, model_uuid=model.model_id, model_id=model.model_id
                    ),
                )
            for cache in saved.rglob("__pycache__"):
                shutil.rmtree(cache)
            client.log_model_artifacts(model.model_id, str(saved))
    except BaseException:
        client.finalize_logged_model(model.model_id, "FAILED")
        raise
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])

    _ensure_registered_model(client, name)
    made = client.create_model_version(
        name,
        # The model's own place, not `models:/<id>`: that is looked up in the process-wide store, which may be another one.
        source=model.artifact_location,
        run_id=run_id,
        model_id=model.model_id,
        description=shortened(description, DESCRIPTION_LIMIT),
        tags={key: shortened(str(value), VERSION_TAG_LIMIT) for key, value in tags.items() if value is not None},
    )
    version = int(made.version)
    client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": json.dumps([{"name": name, "version": version}])})
    client.set_model_version_tag(name, str(version), STATUS, REGISTERED)
    return get(client, name, version)


def get(client: MlflowClient, name: str, version: int) -> Version:
    """One version.

    Raises:
        InvalidInput: there is no such version, or its registration was never finished.
    """
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_model_version(name, str(version))
    except MlflowException as error:
        if not _is_missing(error):
            raise
        raise InvalidInput("no such version", where=f"{name} version {version}", do="see `softprompt registry list`") from None
    if found.tags.get(STATUS) != REGISTERED:
        raise InvalidInput(
            "was not registered by this project, or its registration broke off",
            where=f"{name} version {version}",
            do="run the task again, or name another version",
        )
    return _version(found, tuple(found.aliases))


def list_versions(client: MlflowClient, name: str | None = None) -> list[Version]:
    """Finished versions of one task or of all, by name and newest first; empty when there are none."""
    models = {name: aliases(client, name)} if name is not None else _aliases_of_all(client)
    # Searching for versions leaves their aliases empty, so they are taken from the models.
    return sorted(
        (
            _version(found, tuple(sorted(a for a, v in models[found.name].items() if v == int(found.version))))
            for found in _search(client, name)
            if found.name in models and found.tags.get(STATUS) == REGISTERED
        ),
        key=lambda v: (v.name, -v.version),
    )


def registered_model(client: MlflowClient, name: str) -> RegisteredModel | None:
    """A task's registered model, with its tags and aliases; None when the task has none yet."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if _is_missing(error):
            return None
        raise


def aliases(client: MlflowClient, name: str) -> dict[str, int]:
    """Alias → version of one task; empty when the task has no model yet."""
    model = registered_model(client, name)
    return _aliases(model) if model is not None else {}


def by_alias(client: MlflowClient, name: str, alias: str) -> Version | None:
    """The version that an alias points at; None without one. Raises InvalidInput when that version is not a finished one."""
    version = aliases(client, name).get(alias)
    return None if version is None else get(client, name, version)


def last_decided(client: MlflowClient, name: str) -> Version | None:
    """The highest version that a decision was recorded for; one whose approval has expired counts as undecided."""
    return next((v for v in list_versions(client, name) if OUTCOME in v.tags and not v.approval_expired()), None)


def download(client: MlflowClient, name: str, version: int, to: Path) -> Path:
    """Copy a version's soft-prompt folder below ``to``; returns the folder."""
    from mlflow.artifacts import download_artifacts

    get(client, name, version)
    place = client.get_model_version_download_uri(name, str(version))
    return Path(download_artifacts(f"{place}/artifacts/{_ARTIFACT}", dst_path=str(to), tracking_uri=client.tracking_uri))


def version_size_bytes(client: MlflowClient, name: str, version: int) -> int:
    """Size of everything that a version holds, as stored."""
    from mlflow.artifacts import list_artifacts

    def size(place: str) -> int:
        return sum(
            size(f"{place}/{quote(Path(item.path).name)}") if item.is_dir else int(item.file_size or 0)
            for item in list_artifacts(place, tracking_uri=client.tracking_uri)
        )

    return size(client.get_model_version_download_uri(name, str(version)))


def _ensure_registered_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, tags={TASK: name})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _search(client: MlflowClient, name: str | None) -> list[ModelVersion]:
    # A quote cannot stand in a task's name, and would end the filter early.
    if name is not None and "'" in name:
        return []
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(None if name is None else f"name = '{name}'", max_results=1000, page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return found


def _aliases_of_all(client: MlflowClient) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    token = None
    while True:
        page = client.search_registered_models(max_results=1000, page_token=token)
        found.update({model.name: _aliases(model) for model in page})
        token = page.token
        if not token:
            return found


def _aliases(model: RegisteredModel) -> dict[str, int]:
    return {alias: int(version) for alias, version in model.aliases.items()}


def _version(found: ModelVersion, named: tuple[str, ...]) -> Version:
    return Version(
        name=found.name,
        version=int(found.version),
        run_id=found.run_id or "",
        created=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        tags=dict(found.tags),
        aliases=tuple(sorted(named)),
        description=found.description or "",
    )


def _time(text: str | None) -> datetime | None:
    """A moment from a tag; None when there is none, or somebody has changed it so that it cannot be read."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _is_missing(error: Exception) -> bool:
    # A name with `/` or `:` is refused as invalid; no task can have it.
    code = getattr(error, "error_code", None)
    return code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "Invalid model name" in str(error))
