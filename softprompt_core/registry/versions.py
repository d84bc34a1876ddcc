"""Versions of a registered model: a soft prompt, its spec and the code that serves it, with no base weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from softprompt_core.errors import InvalidInput, Outcome
from softprompt_core.registry.tags import APPROVAL_EXPIRES, DECIDED_AT, OUTCOME, REGISTERED, STATUS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

APPROVAL_TIME = timedelta(days=14)  # where the spec said nothing

ARTIFACT = "soft_prompt"
"""Folder, among a version's artifacts, of what this project put there."""


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


def get(client: MlflowClient, name: str, version: int) -> Version:
    """One version.

    Raises:
        InvalidInput: there is no such version, or its registration was never finished.
    """
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_model_version(name, str(version))
    except MlflowException as error:
        if not is_missing(error):
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
            for found in search(client, name)
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
        if is_missing(error):
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
    return _download(client, name, version, f"/artifacts/{ARTIFACT}", to)


def download_whole(client: MlflowClient, name: str, version: int, to: Path) -> Path:
    """Copy everything that a version holds, MLflow's own files included, below ``to``; returns the folder."""
    return _download(client, name, version, "", to)


def version_size_bytes(client: MlflowClient, name: str, version: int) -> int:
    """Size of everything that a version holds, as stored."""
    from mlflow.artifacts import list_artifacts

    def size(place: str) -> int:
        return sum(
            size(f"{place}/{quote(Path(item.path).name)}") if item.is_dir else int(item.file_size or 0)
            for item in list_artifacts(place, tracking_uri=client.tracking_uri)
        )

    return size(client.get_model_version_download_uri(name, str(version)))


def _download(client: MlflowClient, name: str, version: int, part: str, to: Path) -> Path:
    from mlflow.artifacts import download_artifacts

    get(client, name, version)
    place = client.get_model_version_download_uri(name, str(version))
    return Path(download_artifacts(f"{place}{part}", dst_path=str(to), tracking_uri=client.tracking_uri))


def search(client: MlflowClient, name: str | None) -> list[ModelVersion]:
    """Versions of one model or of all as MLflow has them, unfinished ones and strangers among them, without aliases."""
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


def is_missing(error: Exception) -> bool:
    """Whether MLflow says that there is no such model, version or run."""
    # A name with `/` or `:` is refused as invalid; no task can have it.
    code = getattr(error, "error_code", None)
    return code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "Invalid model name" in str(error))
