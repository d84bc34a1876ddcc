"""Versions of a registered model: a soft prompt, its spec and the code that serves it, with no base weights."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from softprompt_core.errors import InvalidInput, Outcome
from softprompt_core.store.connection import Store
from softprompt_core.store.content import require_content
from softprompt_core.store.failures import in_brief, is_disk_full, is_transient
from softprompt_core.store.reading import StoredVersion
from softprompt_core.store.tags import (
    APPROVAL_EXPIRES,
    CONTENT_FINGERPRINT,
    DECIDED_AT,
    OUTCOME,
    OUTCOME_WITHDRAWN,
    REGISTERED,
    STATUS,
    TASK,
)

APPROVAL_TIME = timedelta(days=14)  # unless the spec names another one

DECISIONS = (Outcome.PROMOTED, Outcome.REJECTED, Outcome.AWAITING_APPROVAL)

ARTIFACT = "soft_prompt"
"""Folder of this project's files among a version's artifacts."""


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
    def decision(self) -> Outcome | None:
        """What was decided about it: promoted, rejected or awaiting approval; None without a decision that can be read."""
        return next((outcome for outcome in DECISIONS if self.tags.get(OUTCOME) == outcome.value), None)

    @property
    def awaits_approval(self) -> bool:
        return self.decision is Outcome.AWAITING_APPROVAL

    @property
    def decided_at(self) -> datetime:
        """When the last decision about it was made, UTC; when it was created, if there was none."""
        return _time(self.tags.get(DECIDED_AT)) or self.created

    @property
    def approval_expires(self) -> datetime:
        """Until when it may be approved, UTC."""
        return _time(self.tags.get(APPROVAL_EXPIRES)) or self.decided_at + APPROVAL_TIME

    def approval_expired(self) -> bool:
        """Whether it waits for approval and it is too late to give it."""
        return self.awaits_approval and datetime.now(UTC) >= self.approval_expires


def get(store: Store, name: str, version: int) -> Version:
    """One version.

    Raises:
        InvalidInput: there is no such version, or its registration was never finished.
    """
    where = f"{name} version {version}"
    stored = store.reader.version(name, version)
    if stored is None:
        raise InvalidInput("no such version", where=where, do="see `softprompt registry list`")
    if stored.tags.get(STATUS) != REGISTERED:
        raise InvalidInput(
            "was not registered by this project, or its registration broke off",
            where=where,
            do="run the task again, or name another version",
        )
    return _version(stored, stored.aliases or ())


def list_versions(store: Store, name: str | None = None) -> list[Version]:
    """Finished versions of one task or of all, by name and newest first; empty when there are none."""
    if name is not None:
        aliases_of = {name: aliases(store, name)}
    else:
        aliases_of = {model.name: model.aliases for model in store.reader.models()}
    # Searching for versions leaves their aliases empty, so they are taken from the models.
    finished = (
        _version(stored, [alias for alias, v in aliases_of[stored.name].items() if v == stored.version])
        for stored in store.reader.versions(name)
        if stored.name in aliases_of and stored.tags.get(STATUS) == REGISTERED
    )
    return sorted(finished, key=lambda v: (v.name, -v.version))


def require_ours(store: Store, name: str) -> None:
    """Raise InvalidInput where MLflow has a registered model of the task's name, or a prompt, that this project did not make."""
    model, kind = store.reader.model(name), "registered model"
    if model is None:
        kind = "prompt"
        if not store.reader.has_prompt(name):
            return
    elif TASK in model.tags or any(STATUS in version.tags for version in store.reader.versions(name)):
        return
    raise InvalidInput(
        f"MLflow has a {kind} of this name that was not made by this project, and is left alone",
        where=f"task {name}",
        do="give the task another `name`, or rename that model in MLflow",
    )


def aliases(store: Store, name: str) -> Mapping[str, int]:
    """Alias → version of one task; empty when the task has no model yet."""
    model = store.reader.model(name)
    return model.aliases if model is not None else {}


def by_alias(store: Store, name: str, alias: str) -> Version | None:
    """The version that an alias points at; None without one. Raises InvalidInput when that version is not a finished one."""
    version = aliases(store, name).get(alias)
    return None if version is None else get(store, name, version)


def find(store: Store, name: str, which: str) -> Version:
    """A version by number, ``v3``, or alias.

    Raises:
        InvalidInput: there is none.
    """
    number = which.removeprefix("v")
    if number.isascii() and number.isdigit():
        return get(store, name, int(number))
    version = by_alias(store, name, which)
    if version is None:
        do = f"give a number or an alias; `softprompt registry show {name}` shows what there is"
        raise InvalidInput("no version has this alias", where=f"{name}@{which}", do=do)
    return version


def last_decided(store: Store, name: str) -> Version | None:
    """The highest version that a decision was recorded for; one whose approval has expired counts as undecided."""
    decided = (v for v in list_versions(store, name) if v.tags.get(OUTCOME, OUTCOME_WITHDRAWN) != OUTCOME_WITHDRAWN)
    return next((v for v in decided if not v.approval_expired()), None)


def undecided(store: Store, name: str | None = None) -> list[Version]:
    """Finished versions of one task or of all that no decision was recorded about, by name and newest first."""
    return [version for version in list_versions(store, name) if OUTCOME not in version.tags]


def download(store: Store, name: str, version: int, to: Path) -> Path:
    """Copy a version below ``to``; returns the folder of its soft prompt. Raises InvalidInput as ``download_whole``."""
    return download_whole(store, name, version, to) / "artifacts" / ARTIFACT


def download_whole(store: Store, name: str, version: int, to: Path) -> Path:
    """Copy everything that a version holds, MLflow's own files included, below ``to``; returns the folder.

    Args:
        to: a folder without another version in it.

    Raises:
        InvalidInput: no such version; or its files are gone, or are not those that were registered.
    """
    from mlflow.artifacts import download_artifacts

    found = get(store, name, version)
    stored = local_folder(store, name, version)
    if stored is not None:
        # A copy would show the content behind a link, and nothing of a folder that is gone.
        require_content(stored, found.tags.get(CONTENT_FINGERPRINT), f"{name} version {version}")
    uri = store.client.get_model_version_download_uri(name, str(version))
    whole = Path(download_artifacts(uri, dst_path=str(to), tracking_uri=store.client.tracking_uri))
    require_content(whole, found.tags.get(CONTENT_FINGERPRINT), f"{name} version {version}")
    return whole


def local_folder(store: Store, name: str, version: int) -> Path | None:
    """Where a version's files are, if that is a folder that this machine may see; None for a server or another storage."""
    uri = urlsplit(store.client.get_model_version_download_uri(name, str(version)))
    return Path(unquote(uri.path)) if uri.scheme in ("", "file") and uri.netloc in ("", "localhost") else None


def content_problem(store: Store, version: Version) -> str | None:
    """What is wrong with a version's files, in words; None if they are those that were registered."""
    registered, where = version.tags.get(CONTENT_FINGERPRINT), f"{version.name} version {version.version}"
    try:
        stored = local_folder(store, version.name, version.version)
        if stored is not None:
            require_content(stored, registered, where)
        else:
            with tempfile.TemporaryDirectory() as scratch:
                download_whole(store, version.name, version.version, Path(scratch))
    except InvalidInput as error:
        return error.what
    except Exception as error:
        if is_transient(error) or is_disk_full(error):
            raise
        return f"its files cannot be read: {in_brief(error)}"
    return None


def require_intact(store: Store, version: Version) -> None:
    """Raise InvalidInput unless a version that is to be champion has the files that were registered.

    Versions of releases that wrote no fingerprint are taken as they are.
    """
    problem = content_problem(store, version) if CONTENT_FINGERPRINT in version.tags else None
    if problem is not None:
        do = "restore its files from a backup, or name another version"
        raise InvalidInput(problem, where=f"{version.name} version {version.version}", do=do)


def version_size_bytes(store: Store, name: str, version: int) -> int:
    """Size of everything that a version holds, as stored."""
    from mlflow.artifacts import list_artifacts

    def size(uri: str) -> int:
        return sum(
            size(f"{uri}/{quote(Path(item.path).name)}") if item.is_dir else int(item.file_size or 0)
            for item in list_artifacts(uri, tracking_uri=store.client.tracking_uri)
        )

    return size(store.client.get_model_version_download_uri(name, str(version)))


def _version(stored: StoredVersion, aliases: Iterable[str]) -> Version:
    return Version(
        name=stored.name,
        version=stored.version,
        run_id=stored.run_id,
        created=stored.created,
        tags=stored.tags,
        aliases=tuple(sorted(aliases)),
        description=stored.description,
    )


def _time(text: str | None) -> datetime | None:
    """A moment from a tag; None when there is none, or somebody has changed it so that it cannot be read."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
