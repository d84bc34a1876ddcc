"""A spec that is right, for tests that change something in it."""

from __future__ import annotations

from typing import Any

import yaml

GOOD = """\
name: toy
base_model: bundled
data:
  source: {files: {train: rows.csv}}
  input: "{text}"
  target:
    column: label
    labels: {0: bad, 1: good}
  slices: {long: "len(text) > 9"}
gates:
  - metric: accuracy
    at_least: 0.8
  - metric: accuracy
    slice: long
    at_least: 0.5
"""


def plain(text: str) -> Any:
    """As an editor sees the file: JSON has text keys only."""

    def keys(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(k): keys(v) for k, v in value.items()}
        return [keys(v) for v in value] if isinstance(value, list) else value

    return keys(yaml.safe_load(text))
