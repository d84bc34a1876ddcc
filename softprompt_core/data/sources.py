"""Where rows come from: files, a hub data set, or frames. All end as ``RawSplit``: plain Python cells and each row's place."""

from __future__ import annotations

import datetime
import decimal
import glob
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softprompt_core.errors import InvalidInput
from softprompt_core.spec.models import DataSource, FilesSource

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Part:
    """One file, one split of a hub data set, or one frame."""

    name: str
    """What a user calls it: the file's path, ``stanfordnlp/sst2[train]``, ``frame train``."""
    columns: tuple[str, ...]
    """Every column that it has."""
    rows: int
    cells: Mapping[str, list[Any]]
    """The wanted columns that it has; each ``[rows]``."""
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
        """column → cells ``[rows]``; a part that lacks the column holds None there."""
        wanted = dict.fromkeys(column for part in self.parts for column in part.cells)
        return {c: [v for part in self.parts for v in part.cells.get(c) or [None] * part.rows] for c in wanted}

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(part.rows for part in self.parts)]

    def place(self, row: int) -> str:
        """Where a row stands, for a person: ``train.jsonl:18``."""
        for part, start in zip(self.parts, self._starts, strict=False):
            if row < start + part.rows:
                return part.place(row - start)
        raise IndexError(row)

    def sources(self) -> str:
        return ", ".join(part.name for part in self.parts)


def load_splits(
    source: DataSource, wanted: Collection[str], frame: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None
) -> dict[str, RawSplit]:
    """Read the wanted columns of every split that the source has; ``train`` is always among them.

    Args:
        source: files or a hub data set.
        wanted: columns to keep; one that is absent is no error here.
        frame: rows from Python, in place of the source: one frame (train) or one a split.

    Raises:
        InvalidInput: a file is missing or broken, or there is no train split.
        Unavailable: the hub cannot be reached.
    """
    if frame is not None:
        from softprompt_core.data.frames import read_frames

        parts = read_frames(frame, wanted)
    elif source.files is not None:
        parts = _read_files(source.files, wanted)
    else:
        from softprompt_core.data.hub import read_hub

        parts = read_hub(source, wanted)
    return {name: RawSplit(name, found) for name, found in parts.items()}


def plain_cells(values: list[Any]) -> list[Any]:
    """Cells as JSON has them: text, numbers, booleans, None; dates as ISO text; lists, mappings and bytes stay what they are."""
    return [value if value is None or type(value) in (str, int, bool) else _plain(value) for value in values]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if hasattr(value, "dtype") and hasattr(value, "tolist"):  # a numpy scalar or array
        inner = value.tolist()
        return inner if isinstance(inner, list) else plain_cells([inner])[0]
    return value


def _read_files(files: FilesSource, wanted: Collection[str]) -> dict[str, tuple[Part, ...]]:
    return {
        split: tuple(_read_file(path, wanted) for pattern in patterns for path in _matches(pattern, f"data.source.files.{split}"))
        for split, patterns in files
        if patterns is not None
    }


def _matches(pattern: str, field_name: str) -> list[str]:
    """The files that a path or a glob names, sorted, so that row order does not hang on the file system."""
    if os.path.exists(pattern):
        return [pattern]
    found = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    if not found:
        kind = "no file matches the pattern" if glob.has_magic(pattern) else "no such file"
        raise InvalidInput(
            kind, where=f"{field_name}: {pattern}", do="check the path; relative paths are taken from the spec's folder"
        )
    return found


def _read_file(path: str, wanted: Collection[str]) -> Part:
    from softprompt_core.data import files

    readers: dict[str, Callable[[Path, Collection[str]], Part]] = {
        ".jsonl": files.read_jsonl,
        ".jsonl.gz": files.read_jsonl,
        ".json": files.read_json,
        ".csv": files.read_csv,
        ".parquet": files.read_parquet,
    }
    if os.path.isdir(path):
        raise InvalidInput("is a folder, not a file", where=path, do="name files, for instance with a glob: folder/*.jsonl")
    for suffix, reader in readers.items():
        if path.lower().endswith(suffix):
            try:
                return reader(Path(path), wanted)
            except OSError as error:
                raise InvalidInput(f"cannot be read: {error}", where=path, do="check the file and its permissions") from None
    raise InvalidInput("unknown kind of file", where=path, do=f"known endings: {', '.join(readers)}")
