"""From a spec to ``TaskData``."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from softprompt_core.data.labels import Labels, find_labels, look_alike_warnings
from softprompt_core.data.overlap import remove_leaks
from softprompt_core.data.reporting import make_report
from softprompt_core.data.rows import CleanRows, build_rows
from softprompt_core.data.slices import parse_slice, slice_columns, slice_members
from softprompt_core.data.sources import RawSplit, load_splits
from softprompt_core.data.splits import make_splits
from softprompt_core.data.task_data import SPLITS, Example, TaskData
from softprompt_core.data.templates import cell_problem
from softprompt_core.data.validation import check_columns, refuse_empty, refuse_few, refuse_no_rows, refuse_too_many
from softprompt_core.fingerprint import fingerprint
from softprompt_core.spec.data import DataSpec, template_fields
from softprompt_core.spec.models import PromptSpec

if TYPE_CHECKING:
    import pandas as pd


def prepare(spec: PromptSpec, frame: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None) -> TaskData:
    """Load, validate, split and render a task's rows.

    Args:
        spec: the task.
        frame: rows from Python, in place of ``spec.data.source``: one frame (train) or one a split.

    Raises:
        InvalidInput: the data cannot be used; says where and what to do.
        Unavailable: the data are at a hub that cannot be reached.
    """
    data, where = spec.data, f"data of `{spec.name}`"
    queries = [parse_slice(name, expression) for name, expression in data.slices.items()]
    columns = {*data.columns(), *slice_columns(queries)}
    raws = load_splits(data.source, columns, frame)
    refuse_no_rows(raws, where)
    check_columns(raws, data.columns())
    labels = find_labels(data.target, raws) if spec.is_classification else None
    shares = {split: getattr(data.splits, split) for split in ("test", "validation") if split not in raws}
    clean = _clean(raws, data, labels, shares, where)

    rows = clean.splits
    members = slice_members(queries, [row for split in SPLITS for row in rows[split]], raws)
    splits = {split: tuple(Example(r.id, r.input, r.target, members[r.id]) for r in rows[split]) for split in SPLITS}
    words = labels.words if labels is not None else ()
    input_columns = tuple(dict.fromkeys(template_fields(data.input)))
    first = rows["train"][0]
    return TaskData(
        splits=splits,
        labels=words,
        fingerprint=_fingerprint(raws, columns, {**shares, "seed": data.splits.seed} if shares else None),
        report=make_report(
            splits,
            clean,
            {name: raw.rows for name, raw in raws.items()},
            words,
            tuple(data.slices),
            look_alike_warnings(labels) if labels is not None else (),
        ),
        input_example={column: raws[first.source].cells[column][first.index] for column in input_columns},
        columns=input_columns,
    )


def _clean(
    raws: Mapping[str, RawSplit], data: DataSpec, labels: Labels | None, shares: Mapping[str, float], where: str
) -> CleanRows:
    """Rendered rows in all three splits, without bad rows and leaks. Raises InvalidInput as ``prepare`` does."""
    built = {name: build_rows(raw, data, labels) for name, raw in raws.items()}
    bad = [row for _, bad_rows in built.values() for row in bad_rows]
    refuse_too_many(bad, data.max_bad_rows, where)
    # Before splitting, so that a share is a share of the rows that stay.
    splits, leaks = remove_leaks({name: rows for name, (rows, _) in built.items()})
    if shares:
        keep = data.min_rows_per_class if labels else 1
        stratified = labels is not None
        splits |= make_splits(splits["train"], shares, seed=data.splits.seed, stratified=stratified, keep=keep)
    if labels is not None and splits["train"]:
        refuse_few(splits["train"], labels, data.min_rows_per_class, where)
    splits = {split: splits[split] for split in SPLITS}
    refuse_empty(splits, shares, where)
    return CleanRows(splits, leaks, bad)


def _fingerprint(raws: Mapping[str, RawSplit], columns: Collection[str], made: Mapping[str, Any] | None) -> str:
    """Fingerprint of every cell that was read, in order, bad rows included, and of how missing splits are made."""
    parts = [part for raw in raws.values() for part in raw.parts]
    return fingerprint(
        {
            "cells": {
                name: {c: [_hashable(v) for v in raw.cells[c]] for c in columns if c in raw.cells} for name, raw in raws.items()
            },
            "class_names": {column: names for part in parts for column, names in part.class_names.items()},
            "made": made,
        }
    )


def _hashable(value: Any) -> Any:
    if value is None or isinstance(value, str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, int):
        return value if cell_problem(value) is None else hex(value)
    # Lists, mappings, bytes and infinite numbers make a row bad, but a change in them is a change of the data all the same.
    try:
        return [type(value).__name__, repr(value)]
    except RecursionError:
        return [type(value).__name__, "nested too deep"]
