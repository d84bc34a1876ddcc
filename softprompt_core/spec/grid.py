"""A grid over a spec: which settings to try, and the spec of every point."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from softprompt_core.errors import InvalidInput
from softprompt_core.spec.loading import Loader, parse_spec
from softprompt_core.spec.models import PromptSpec

MAX_POINTS = 100
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
    return " ".join(f"{key}={said(value)}" for key, value in settings.items())


def said(value: Any) -> str:
    """A value as a person writes it in YAML, on one line."""
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True).removesuffix("\n...\n").strip()


def parse_grid(axes: Sequence[str]) -> dict[str, list[Any]]:
    """``["prompt.length=1,5", "prompt.init=labels,vocabulary"]`` as key → values; each value is YAML.

    Raises:
        InvalidInput: an axis that is no ``key=value,…``, or a key given twice.
    """
    grid: dict[str, list[Any]] = {}
    for axis in axes:
        key, equals, text = (part.strip() for part in axis.partition("="))
        if not key or not equals or not text:
            raise InvalidInput(f"`{axis}` names no values", where="--grid", do="write it as in --grid prompt.length=1,5,20")
        if key in grid:
            raise InvalidInput(f"`{key}` is given twice", where="--grid", do="list all its values behind one --grid")
        try:
            grid[key] = yaml.load(f"[{text}]", Loader=Loader)
        except yaml.YAMLError:
            do = 'put values with commas, braces or colons into quotes: --grid \'data.input="{text}","{text} Answer:"\''
            raise InvalidInput(f"`{text}` cannot be read as YAML values", where=f"--grid {key}", do=do) from None
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
            raise InvalidInput("lists no values", where=f"--grid {key}", do="write it as in --grid prompt.length=1,5,20")
        twice = [said(value) for place, value in enumerate(values) if value in values[:place]]
        if twice:
            raise InvalidInput(f"lists {twice[0]} twice", where=f"--grid {key}")
    count = math.prod(len(values) for values in grid.values())
    if count > max_points:
        sizes = " × ".join(str(len(values)) for values in grid.values())
        trainings = count * spec.training.seeds
        raise InvalidInput(
            f"the grid has {count:,} points ({sizes}), {trainings:,} prompts to train; the limit is {max_points:,} points",
            where="--grid",
            do=f"list fewer values, or ask for it with --max-points {count}",
        )
    written = spec.model_dump(mode="json")
    points = []
    for values in itertools.product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        point: Any = written
        for key, value in settings.items():
            point = with_setting(point, key, value)
        parsed = parse_spec(point, folder=folder, where=f"--grid {settings_name(settings)}")
        points.append(GridPoint({key: _as_read(parsed, key, value) for key, value in settings.items()}, parsed))
    return points


def _as_read(spec: PromptSpec, key: str, value: Any) -> Any:
    """A number where the spec has read one: to YAML, 1e-3 is text."""
    read: Any = spec
    for part in key.split("."):
        read = read.get(part) if isinstance(read, Mapping) else getattr(read, part, None)
    return read if isinstance(value, str) and isinstance(read, (int, float)) else value


def with_setting(value: Mapping[str, Any], key: str, new: Any) -> dict[str, Any]:
    """A copy of nested mappings in which the dotted ``key`` has a ``new`` value; mappings on the way are made."""
    first, dot, rest = key.partition(".")
    if not dot:
        return {**value, first: new}
    inner = value.get(first)
    if isinstance(inner, str) and first == "base_model":
        inner = {"id": inner}  # the short form
    return {**value, first: with_setting(inner if isinstance(inner, Mapping) else {}, rest, new)}


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as the nested mapping that stands in a spec."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found = with_setting(found, key, value)
    return found


def _check_keys(grid: Mapping[str, Sequence[Any]]) -> None:
    if not grid:
        raise InvalidInput("there is nothing to sweep", where="--grid", do="write it as in --grid prompt.length=1,5,20")
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
