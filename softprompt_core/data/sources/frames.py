"""Rows that come from Python as pandas frames."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from softprompt_core.data.sources.files import refuse_repeated_columns
from softprompt_core.data.sources.parts import Part, plain_cells
from softprompt_core.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd


def read_frames(frame: pd.DataFrame | Mapping[str, pd.DataFrame], columns: Collection[str]) -> dict[str, tuple[Part, ...]]:
    """One frame (train) or one a split. The frames' indexes are ignored: rows are numbered from 0.

    Raises:
        InvalidInput: something else than frames, a split of another name, or no train split.
    """
    import pandas as pd

    frames = {"train": frame} if isinstance(frame, pd.DataFrame) else frame
    do = "give one DataFrame, or a dict of DataFrames under train, validation and test"
    if not isinstance(frames, Mapping) or not all(isinstance(f, pd.DataFrame) for f in frames.values()):
        raise InvalidInput("is neither a pandas DataFrame nor a dict of them", where="frame", do=do)
    unknown = set(frames) - {"train", "validation", "test"}
    if unknown or "train" not in frames:
        problem = f"unknown split {min(map(str, unknown))!r}" if unknown else "there is no train split"
        raise InvalidInput(problem, where="frame", do=do)
    return {split: (_part(f"frame {split}", frames[split], columns),) for split in frames}


def _part(name: str, frame: pd.DataFrame, columns: Collection[str]) -> Part:
    names = tuple(str(column) for column in frame.columns)
    return Part(name=name, columns=names, rows=len(frame), cells=frame_cells(frame, columns, name))


def frame_cells(frame: pd.DataFrame, columns: Collection[str], where: str) -> dict[str, list[Any]]:
    """Those of the columns that a frame has, as training takes them: column → plain cells ``[rows]``.

    Raises:
        InvalidInput: one of them is there twice.
    """
    names = [str(column) for column in frame.columns]
    refuse_repeated_columns(names, columns, where)
    cells = {}
    for index, column in enumerate(names):
        if column in columns:
            series = frame.iloc[:, index]
            values = zip(series.astype(object).tolist(), series.notna().tolist(), strict=True)
            cells[column] = plain_cells([value if present else None for value, present in values])
    return cells
