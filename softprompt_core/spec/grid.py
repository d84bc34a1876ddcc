"""A grid over a spec: which settings to try, and the spec of every point."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softprompt_core.errors import InvalidInput
from softprompt_core.spec.loading import parse_spec
from softprompt_core.spec.models import PromptSpec
from softprompt_core.spec.yaml_text import read_yaml, to_yaml

MAX_POINTS = 100
_DO = "write it as in --grid prompt.length=1,5,20"
_PARTS = ("prompt", "training", "base_model", "data")
# Points are compared on the validation rows, which these would change.
_ROWS = ("data.source", "data.splits")


@dataclass(frozen=True)
class GridPoint:
    """One combination of values. ``settings``: dotted key → value, in the grid's order."""

    settings: Mapping[str, Any]
    spec: PromptSpec

    @property
    def name(self) -> str:
        """As on the command line: ``prompt.length=5 prompt.init=labels``."""
        return settings_name(self.settings)


def settings_name(settings: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={as_text(value)}" for key, value in settings.items())


def as_text(value: Any) -> str:
    """A value as a person writes it in YAML, on one line."""
    return value if isinstance(value, str) else to_yaml(value, flow=True)


def parse_grid(axes: Sequence[str]) -> dict[str, list[Any]]:
    """``["prompt.length=1,5", "prompt.init=labels,vocabulary"]`` as key → values; each value is YAML.

    Raises:
        InvalidInput: an axis that is no ``key=value,…``, or a key given twice.
    """
    grid: dict[str, list[Any]] = {}
    for axis in axes:
        key, equals, text = (part.strip() for part in axis.partition("="))
        if not key or not equals or not text:
            raise InvalidInput(f"`{axis}` names no values", where="--grid", do=_DO)
        if key in grid:
            raise InvalidInput(f"`{key}` is given twice", where="--grid", do="list all its values behind one --grid")
        try:
            grid[key] = read_yaml(f"[{text}]", f"--grid {key}").value
        except InvalidInput as error:
            do = 'put values with commas, braces or colons into quotes: --grid \'data.input="{text}","{text} Answer:"\''
            raise InvalidInput(f"`{text}` cannot be read as YAML values: {error.what}", where=f"--grid {key}", do=do) from None
    return grid


def grid_points(
    spec: PromptSpec, grid: Mapping[str, Sequence[Any]], *, folder: str | Path | None = None, max_points: int = MAX_POINTS
) -> list[GridPoint]:
    """The spec of every combination of the grid's values, the last key changing fastest.

    Args:
        spec: what all points have in common.
        grid: dotted key → values.
        folder: where relative paths among the values are taken from.
        max_points: more combinations are refused.

    Raises:
        InvalidInput: an unknown key or a bad value, named; a key that training does not read; a value twice; too many points.
    """
    _check_keys(grid)
    for key, values in grid.items():
        if not values:
            raise InvalidInput("lists no values", where=f"--grid {key}", do=_DO)
        repeated = [as_text(value) for index, value in enumerate(values) if value in values[:index]]
        if repeated:
            raise InvalidInput(f"lists {repeated[0]} twice", where=f"--grid {key}")
    count = math.prod(len(values) for values in grid.values())
    if count > max_points:
        sizes = " × ".join(str(len(values)) for values in grid.values())
        trainings = count * spec.training.seeds
        raise InvalidInput(
            f"the grid has {count:,} points ({sizes}), {trainings:,} prompts to train; the limit is {max_points:,} points",
            where="--grid",
            do=f"list fewer values, or ask for it with --max-points {count}",
        )
    common = spec.model_dump(mode="json")
    points = []
    for values in itertools.product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        parsed = parse_spec(nested(settings, common), folder=folder, where=f"--grid {settings_name(settings)}")
        points.append(GridPoint({key: _as_read(parsed, key, value) for key, value in settings.items()}, parsed))
    return points


def _as_read(spec: PromptSpec, key: str, value: Any) -> Any:
    """A number where the spec has read one: to YAML, 1e-3 is text."""
    read: Any = spec
    for part in key.split("."):
        read = read.get(part) if isinstance(read, Mapping) else getattr(read, part, None)
    return read if isinstance(value, str) and isinstance(read, (int, float)) else value


def nested(settings: Mapping[str, Any], spec: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The nested mapping that dotted keys stand for, put into a copy of ``spec`` if there is one."""
    mapping = dict(spec or {})
    for key, value in settings.items():
        mapping = _with_setting(mapping, key, value)
    return mapping


def _with_setting(mapping: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    first, dot, rest = key.partition(".")
    if not dot:
        return {**mapping, first: value}
    inner = mapping.get(first)
    return {**mapping, first: _with_setting(inner if isinstance(inner, Mapping) else {}, rest, value)}


def _check_keys(grid: Mapping[str, Sequence[Any]]) -> None:
    if not grid:
        raise InvalidInput("there is nothing to sweep", where="--grid", do=_DO)
    for key in grid:
        where, first = f"--grid {key}", key.partition(".")[0]
        if first in PromptSpec.model_fields and first not in _PARTS:
            raise InvalidInput("has no part in training", where=where, do=f"sweep settings of {', '.join(_PARTS)}")
        if any(key == rows or key.startswith(f"{rows}.") for rows in _ROWS) or key == "data":
            raise InvalidInput(
                "changes the rows that points are compared on", where=where, do="run one sweep for each, and compare by hand"
            )
        inside = next((other for other in grid if key.startswith(f"{other}.")), None)
        if inside:
            raise InvalidInput(f"lies inside `{inside}`, which is swept too", where=where, do="sweep one of the two")
