"""Read the splits of a spec's source."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from softprompt_core.data.sources.files import read_csv, read_json, read_jsonl, read_parquet
from softprompt_core.data.sources.frames import read_frames
from softprompt_core.data.sources.hub import read_hub
from softprompt_core.data.sources.parts import Part, RawSplit
from softprompt_core.errors import InvalidInput
from softprompt_core.spec.data import DataSource, FilesSource
from softprompt_core.text_files import require_regular

if TYPE_CHECKING:
    import pandas as pd

_READERS: dict[str, Callable[[Path, Collection[str]], Part]] = {
    ".jsonl": read_jsonl,
    ".jsonl.gz": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".parquet": read_parquet,
}

FILE_SUFFIXES = tuple(_READERS)
"""Endings of the kinds of files that can be read."""


def load_splits(
    source: DataSource, columns: Collection[str], frame: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None
) -> dict[str, RawSplit]:
    """Read columns of every split that the source has; ``train`` is always among them.

    Args:
        source: files or a hub data set.
        columns: the columns to read; one that is absent is no error here.
        frame: rows from Python, in place of the source: one frame (train) or one a split.

    Raises:
        InvalidInput: a file is missing or broken, or there is no train split.
        Unavailable: the hub cannot be reached.
    """
    if frame is not None:
        parts = read_frames(frame, columns)
    elif source.files is not None:
        parts = _read_files(source.files, columns)
    else:
        parts = read_hub(source, columns)
    return {split: RawSplit(split, split_parts) for split, split_parts in parts.items()}


def _read_files(files: FilesSource, columns: Collection[str]) -> dict[str, tuple[Part, ...]]:
    return {
        split: tuple(_read_file(path, columns) for pattern in patterns for path in _paths(pattern, f"data.source.files.{split}"))
        for split, patterns in files
        if patterns is not None
    }


def _paths(pattern: str, field: str) -> list[str]:
    """The files that a path or a glob names, sorted, so that row order does not hang on the file system."""
    if os.path.exists(pattern):
        return [pattern]
    # A folder that is there is meant by its name, whatever signs that holds: ``my data [v1]/*.csv``.
    folder = _existing_folder(pattern)
    below = pattern[len(folder) :]
    paths = sorted(path for path in glob.glob(glob.escape(folder) + below, recursive=True) if os.path.isfile(path))
    if not paths:
        problem = "no file matches the pattern" if glob.has_magic(below) else "no such file"
        do = "check the path; relative paths are taken from the spec's folder"
        raise InvalidInput(problem, where=f"{field}: {pattern}", do=do)
    return paths


def _existing_folder(path: str) -> str:
    """The longest beginning of a path that is a folder; empty for none."""
    folder = os.path.dirname(path)
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    return folder


def _read_file(path: str, columns: Collection[str]) -> Part:
    if os.path.isdir(path):
        raise InvalidInput("is a folder, not a file", where=path, do="name files, for instance with a glob: folder/*.jsonl")
    require_regular(Path(path))
    for suffix, read in _READERS.items():
        if path.lower().endswith(suffix):
            try:
                return read(Path(path), columns)
            except OSError as error:
                raise InvalidInput(f"cannot be read: {error}", where=path, do="check the file and its permissions") from None
    raise InvalidInput("unknown kind of file", where=path, do=f"known endings: {', '.join(_READERS)}")
