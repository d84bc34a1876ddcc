"""JSON: files of this program, written so that a reader never sees half of one, and texts that users wrote."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any) -> None:
    """Write plain data atomically. Raises ValueError for NaN and infinity, which JSON does not have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps(value, ensure_ascii=False, allow_nan=False), encoding="utf-8")
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def parse_json(text: str | bytes) -> Any:
    """Plain data of a text that a user wrote.

    Raises:
        ValueError: not JSON, an object with a key twice, an integer of thousands of digits, or nesting without end.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("lists and objects are nested too deep") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"an object has the key `{counts.most_common(1)[0][0]}` twice")
    return value
