"""Rows as they were read: plain Python cells, and where each row stands."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any


@dataclass(frozen=True)
class Part:
    """One file, one split of a hub data set, or one frame."""

    name: str
    """What a user calls it: the file's path, ``stanfordnlp/sst2[train]``, ``frame train``."""
    columns: tuple[str, ...]
    """All its columns, read or not."""
    rows: int
    cells: Mapping[str, list[Any]]
    """Column that was read → cells ``[rows]``."""
    lines: Sequence[int] | None = None
    """Text files: the line on which each row begins, from 1."""
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names behind the integers of ``ClassLabel`` columns."""

    def place(self, row: int) -> str:
        return f"{self.name}:{self.lines[row]}" if self.lines is not None else f"{self.name}, row {row}"


@dataclass(frozen=True)
class RawSplit:
    """All rows of one split as they were read; rows are numbered from 0 over its parts."""

    name: str
    parts: tuple[Part, ...]

    @cached_property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(column for part in self.parts for column in part.columns))

    @cached_property
    def cells(self) -> dict[str, list[Any]]:
        """Column → cells ``[rows]``; a part that lacks the column holds None there."""
        columns = dict.fromkeys(column for part in self.parts for column in part.cells)
        return {c: [v for part in self.parts for v in part.cells.get(c) or [None] * part.rows] for c in columns}

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(part.rows for part in self.parts)]

    def place(self, row: int) -> str:
        """Where a row stands, for a person: ``train.jsonl:18``. Raises IndexError if there is no such row."""
        for part, start in zip(self.parts, self._starts, strict=False):
            if row < start + part.rows:
                return part.place(row - start)
        raise IndexError(row)

    def sources(self) -> str:
        return ", ".join(part.name for part in self.parts)


def plain_cells(values: list[Any]) -> list[Any]:
    """Cells as JSON has them: text, numbers, booleans, None; dates as ISO text; lists, mappings and bytes stay what they are."""
    return [value if value is None or type(value) in (str, int, bool) else _plain(value) for value in values]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat() if value == value else None  # pandas has a date that is missing
    if hasattr(value, "dtype") and hasattr(value, "tolist"):  # a numpy scalar or array
        inner = value.tolist()
        return inner if isinstance(inner, list) else plain_cells([inner])[0]
    return value
