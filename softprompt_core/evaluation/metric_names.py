"""Metric names that MLflow accepts, whatever words the labels are."""

from __future__ import annotations

import hashlib
import re

_LONGEST = 250


def loggable_name(name: str) -> str:
    """The name itself where MLflow takes it, else a legal one that ends in a digest, so that two labels never share a name.

    Legal are letters, digits, ``_ - . /`` and spaces in the form of a plain relative path, up to 250 characters. The colon, legal
    except on Windows, is replaced everywhere.
    """
    parts = [re.sub(r"[^\w.\- ]", "_", part) for part in name.split("/")]
    legal = "/".join("_" if part in ("", ".", "..") else part for part in parts)
    if legal == name and len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{legal[: _LONGEST - 9]}-{digest}"
