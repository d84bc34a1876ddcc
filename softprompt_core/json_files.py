"""Files written so that a reader never sees half of one, and two writers never write into one; JSON, also as users write it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_MAX_DIGITS = 4300  # what Python converts


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


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Let ``target`` be the same file; a copy on another file system, or one without links."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copyfile(source, target)


def write_json(path: Path, value: Any) -> None:
    """Write plain data atomically. Raises ValueError for NaN and infinity, which JSON does not have."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, ensure_ascii=False, allow_nan=False), encoding="utf-8")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def parse_json(text: str | bytes) -> Any:
    """Plain data of a text that a user wrote.

    Raises:
        ValueError: not JSON, an object with a key twice, an integer of thousands of digits, or nesting without end.
    """
    try:
        return json.loads(text, object_pairs_hook=_object, parse_int=_integer)
    except RecursionError:
        raise ValueError("lists and objects are nested too deep") from None


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits):,} digits; at most {_MAX_DIGITS:,} are read")
    return int(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"an object has the key `{counts.most_common(1)[0][0]}` twice")
    return value
