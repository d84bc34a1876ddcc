"""Content hashes: two things with one fingerprint are the same thing, wherever and whenever they were read."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

ROOMS = ("base_model", "data", "evaluation", "forward", "soft_prompt", "training")
"""Packages of this library whose code can change a number."""
DEPENDENCIES = ("torch", "transformers")
"""Libraries whose minor releases can."""


def fingerprint(value: Any) -> str:
    """SHA-256 (64 hex digits) of a JSON-like value: mappings with text keys, lists, tuples, text, numbers, booleans, None.

    The order of keys in a mapping does not matter, that of a list does. A tuple counts as a list; 1, 1.0, "1" and true differ.

    Raises:
        TypeError: the value holds anything else, a mapping with a key that is not text included.
        ValueError: the value holds NaN or an infinite number, which JSON cannot say.
    """
    _refuse_other_keys(value)
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def file_digest(path: str | Path) -> str:
    """SHA-256 (64 hex digits) of a file's bytes, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def library_fingerprint() -> str:
    """SHA-256 over everything but the spec, the data and the base that can change a number; read once a process.

    These are the ``.py`` files of ``ROOMS`` and the minor releases of ``DEPENDENCIES``, which are not imported for it. It is part
    of what decides whether a run may be skipped: results of other code are not results of this one.
    """
    package = Path(__file__).parent
    code = {room: tree_fingerprint(package / room) for room in ROOMS}
    return fingerprint([code, {name: _minor_release(name) for name in DEPENDENCIES}])


def tree_fingerprint(root: Path) -> str:
    """SHA-256 over the relative path and content of every ``.py`` file below a folder."""
    return fingerprint({path.relative_to(root).as_posix(): file_digest(path) for path in root.rglob("*.py")})


def _minor_release(package: str) -> list[str]:
    return importlib.metadata.version(package).partition("+")[0].split(".")[:2]


def _refuse_other_keys(value: Any) -> None:
    # json.dumps would silently turn 1, None and True into text, so {1: x} and {"1": x} would collide.
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a mapping's keys must be text, not {key!r}")
            _refuse_other_keys(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            if isinstance(item, (dict, list, tuple)):
                _refuse_other_keys(item)
