"""What a version's files are, wherever they are stored: one fingerprint over all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from softprompt_core.errors import InvalidInput
from softprompt_core.fingerprint import file_digest, fingerprint

_MLMODEL = "MLmodel"
# Keys of that file that say where it is stored. All others are content: they name the code that serves the version.
_LOCATION_KEYS = ("artifact_path", "model_id", "model_uuid", "run_id")


def content_fingerprint(folder: Path) -> str:
    """SHA-256 over path and bytes of all files of a version; of ``MLmodel`` its keys without the ids of run and model.

    Args:
        folder: the whole model, as ``download_whole`` brings it.

    Raises:
        InvalidInput: there is no ``MLmodel``, or it cannot be read.
    """
    model = {key: value for key, value in _read_mlmodel(folder).items() if key not in _LOCATION_KEYS}
    files = {path.relative_to(folder).as_posix(): file_digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}
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
