"""What a version's files are, wherever they are stored: one fingerprint over all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from softprompt_core.errors import InvalidInput
from softprompt_core.fingerprint import file_digest, fingerprint

_ABOUT = "MLmodel"
# What MLflow's own file says about where it is stored. All else in it is content: it names the code that serves the version.
_PLACES = ("artifact_path", "model_id", "model_uuid", "run_id")


def content_fingerprint(folder: Path) -> str:
    """SHA-256 over path and bytes of all files of a version; of ``MLmodel`` what it says, without the ids of run and model.

    Args:
        folder: the whole model, as ``download_whole`` brings it.

    Raises:
        InvalidInput: there is no ``MLmodel``, or it cannot be read.
    """
    about = {key: value for key, value in _about(folder).items() if key not in _PLACES}
    files = {path.relative_to(folder).as_posix(): file_digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    del files[_ABOUT]
    return fingerprint([files, json.loads(json.dumps(about, default=str))])


def retarget(folder: Path, *, run_id: str, model_id: str, location: str) -> None:
    """Let ``MLmodel`` name another run and model; the content stays the same. Raises InvalidInput as above."""
    import yaml

    about = {**_about(folder), "artifact_path": location, "model_id": model_id, "model_uuid": model_id, "run_id": run_id}
    (folder / _ABOUT).write_text(yaml.safe_dump(about, allow_unicode=True), encoding="utf-8")


def _about(folder: Path) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load((folder / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(f"cannot be read: {error}", where=f"{folder.name}/{_ABOUT}", do="register the version again") from None
    if not isinstance(found, dict):
        raise InvalidInput("is no description of a model", where=f"{folder.name}/{_ABOUT}", do="register the version again")
    return found
