"""What a version's files are, wherever they are stored, and whether they still are what they were.

Two digests tell. ``softprompt.content_fingerprint``, a tag in the registry, is over the whole model. ``content.json`` lies beside
the prompt and names the digest of every file there, so that a version can be checked where no registry is in reach;
``MLmodel`` names the digest of that file in turn. Versions of earlier releases have the tag alone, or neither, and open as they
did.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from softprompt_core.errors import InvalidInput
from softprompt_core.fingerprint import file_digest, fingerprint

CONTENT_FILE = "content.json"
CONTENT_KEY = "softprompt_content"
"""Key of ``MLmodel``'s metadata with the digest of ``content.json``."""
_MLMODEL = "MLmodel"
_LOADED_NOTE = "registered_model_meta"
# Keys of that file that say where it is stored. All others are content: they name the code that serves the version.
_LOCATION_KEYS = ("artifact_path", "model_id", "model_uuid", "run_id")
_CHANGED = "its files are not those that were registered"
_DO = (
    "restore the files from a backup; of a champion, `softprompt registry rollback` makes the one before champion again, and "
    "`softprompt registry promote --override` any other version"
)


def seal(folder: Path) -> str:
    """Write ``content.json`` into a folder that holds a prompt's files; returns its digest."""
    digests = {path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.name != CONTENT_FILE}
    text = json.dumps({"format": 1, "sha256": digests}, indent=2, sort_keys=True) + "\n"
    (folder / CONTENT_FILE).write_text(text, encoding="utf-8")
    return file_digest(folder / CONTENT_FILE)


def require_sealed(folder: Path) -> None:
    """Check a prompt's folder by what lies in it, and by the ``MLmodel`` above it where it is part of a whole version.

    Raises:
        InvalidInput: a file is not the one that was registered, is missing, came in addition, or is a link.
    """
    _refuse_links(folder, str(folder))
    named = _digest_in_mlmodel(folder.resolve().parent.parent)
    sealed = folder / CONTENT_FILE
    if not sealed.exists():
        if named is not None:
            raise InvalidInput(f"`{CONTENT_FILE}` is gone, which says what its files are", where=str(folder), do=_DO)
        return  # of an earlier release
    if named is not None and file_digest(sealed) != named:
        raise InvalidInput(f"`{CONTENT_FILE}` is not the one of this version", where=str(folder), do=_DO)
    try:
        digests = json.loads(sealed.read_text(encoding="utf-8"))["sha256"]
        changed = [name for name, digest in digests.items() if _digest(folder / name) != digest]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"`{CONTENT_FILE}` cannot be read: {error!r}", where=str(folder), do=_DO) from None
    added = sorted({path.name for path in folder.iterdir()} - digests.keys() - {CONTENT_FILE})
    if changed or added:
        what = [f"`{name}` {'is not the one' if (folder / name).exists() else 'is gone'}" for name in changed]
        what += [f"`{name}` was added" for name in added]
        raise InvalidInput(f"{_CHANGED}: {', '.join(what)}", where=str(folder), do=_DO)


def require_content(folder: Path, registered: str | None, where: str) -> None:
    """Check a whole version against the tag in the registry.

    Args:
        folder: the whole model, as stored or downloaded.
        registered: the tag's value; None for a version of a release that wrote none, which is checked by its own files alone.
        where: names the version in messages.

    Raises:
        InvalidInput: its files are gone, or are not those that were registered.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        raise InvalidInput("its files are gone", where=where, do=_DO)
    try:
        _refuse_links(folder, where)
        prompt = folder / "artifacts" / "soft_prompt"
        if prompt.is_dir():
            require_sealed(prompt)  # names the file
        found = registered and content_fingerprint(folder)
    except InvalidInput as error:
        raise InvalidInput(error.what, where=where, do=_DO) from None
    if found != registered:
        raise InvalidInput(_CHANGED, where=where, do=_DO)


def content_fingerprint(folder: Path) -> str:
    """SHA-256 over path and bytes of all files of a version; of ``MLmodel`` its keys without the ids of run and model.

    Args:
        folder: the whole model, as ``download_whole`` brings it.

    Raises:
        InvalidInput: there is no ``MLmodel``, or it cannot be read.
    """
    model = {key: value for key, value in _read_mlmodel(folder).items() if key not in _LOCATION_KEYS}
    paths = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    # MLflow leaves these in the very folder of a model that it loads from a local store.
    own = [path for path in paths if path.as_posix() != _LOADED_NOTE and "__pycache__" not in path.parts]
    files = {path.as_posix(): file_digest(folder / path) for path in own}
    del files[_MLMODEL]
    return fingerprint([files, json.loads(json.dumps(model, default=str))])


def retarget(folder: Path, *, run_id: str, model_id: str, location: str) -> None:
    """Let ``MLmodel`` name another run and model; the content stays the same. Raises InvalidInput as above."""
    import yaml

    ids = {"artifact_path": location, "model_id": model_id, "model_uuid": model_id, "run_id": run_id}
    text = yaml.safe_dump({**_read_mlmodel(folder), **ids}, allow_unicode=True)
    (folder / _MLMODEL).write_text(text, encoding="utf-8")


def _read_mlmodel(folder: Path) -> dict[str, Any]:
    import yaml

    where, do = f"{folder.name}/{_MLMODEL}", "register the version again"
    try:
        model = yaml.safe_load((folder / _MLMODEL).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(f"cannot be read: {error}", where=where, do=do) from None
    if not isinstance(model, dict):
        raise InvalidInput("is no description of a model", where=where, do=do)
    return model


def _refuse_links(folder: Path, where: str) -> None:
    links = [path.name for path in (folder, *folder.rglob("*")) if path.is_symlink()]
    if links:
        what = f"`{links[0]}` is a link to another place: a version holds its own files"
        raise InvalidInput(what, where=where, do=_DO)


def _digest(path: Path) -> str | None:
    return file_digest(path) if path.is_file() else None


def _digest_in_mlmodel(root: Path) -> str | None:
    if not (root / _MLMODEL).is_file():
        return None
    metadata = _read_mlmodel(root).get("metadata")
    return metadata.get(CONTENT_KEY) if isinstance(metadata, dict) else None
