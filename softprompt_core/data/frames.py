"""Rows that come from Python as pandas frames."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from softprompt_core.data.sources import Part, plain_cells
from softprompt_core.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd


def read_frames(frame: pd.DataFrame | Mapping[str, pd.DataFrame], wanted: Collection[str]) -> dict[str, tuple[Part, ...]]:
    """One frame (train) or one a split. The frames' indexes are ignored: rows are numbered from 0."""
    import pandas as pd

    frames = {"train": frame} if isinstance(frame, pd.DataFrame) else frame
    do = "give one DataFrame, or a dict of DataFrames under train, validation and test"
    if not isinstance(frames, Mapping) or not all(isinstance(f, pd.DataFrame) for f in frames.values()):
        raise InvalidInput("is neither a pandas DataFrame nor a dict of them", where="frame", do=do)
    unknown = set(frames) - {"train", "validation", "test"}
    if unknown or "train" not in frames:
        problem = f"unknown split {min(map(str, unknown))!r}" if unknown else "there is no train split"
        raise InvalidInput(problem, where="frame", do=do)
    return {split: (_part(f"frame {split}", frames[split], wanted),) for split in frames}


def _part(name: str, frame: pd.DataFrame, wanted: Collection[str]) -> Part:
    columns = tuple(str(column) for column in frame.columns)
    for column in wanted:
        if columns.count(column) > 1:
            raise InvalidInput(f"two columns are called `{column}`", where=name, do="rename one")
    cells = {}
    for place, column in enumerate(columns):
        if column in wanted:
            series = frame.iloc[:, place]
            values = series.astype(object).tolist()
            cells[column] = plain_cells([v if here else None for v, here in zip(values, series.notna().tolist(), strict=True)])
    return Part(name=name, columns=columns, rows=len(frame), cells=cells)
