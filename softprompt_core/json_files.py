"""Files written so that a reader never sees half of one, and two writers never write into one; JSON files among them."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to, of this writer alone; the file takes the place of ``path`` when the block ends well.

    Several processes may write one file, of several machines too: the last one to end counts, whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)  # on a full disk it would take what room there is
        raise


def write_json(path: Path, value: Any) -> None:
    """Write plain data atomically. Raises ValueError for NaN and infinity, which JSON does not have."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, ensure_ascii=False, allow_nan=False), encoding="utf-8")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
