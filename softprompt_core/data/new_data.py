"""Rows that came after a training: read through the task's own templates, with or without the right answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from softprompt_core.data.labels import Labels, find_labels, label_text
from softprompt_core.data.report import BadRow
from softprompt_core.data.rows import build_rows
from softprompt_core.data.slices import parse_slice, slice_columns, slice_members
from softprompt_core.data.sources import RawSplit, load_splits
from softprompt_core.data.task_data import Example
from softprompt_core.data.validation import check_columns, refuse_no_rows
from softprompt_core.spec.data import DataSource, FilesSource, TargetSpec, template_fields
from softprompt_core.spec.models import PromptSpec

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class NewRows:
    """Rows of a task that came after a training.

    Attributes:
        labelled: whether the rows have the target's columns; if not, every ``target`` is empty.
        bad: rows set aside: an empty field, or a label that the task does not know.
    """

    examples: tuple[Example, ...]
    labelled: bool
    bad: tuple[BadRow, ...]


def load_new_rows(spec: PromptSpec, labels: Sequence[str], files: Sequence[str], frame: pd.DataFrame | None = None) -> NewRows:
    """Read new rows of a task.

    Args:
        labels: the champion's label words; empty for generation.
        files: paths and globs.
        frame: rows from Python, in place of the files.

    Raises:
        InvalidInput: a file is missing or broken, there is no row, or a column of the input template is missing.
    """
    queries = [parse_slice(name, expression) for name, expression in spec.data.slices.items()]
    columns = {*spec.data.columns(), *slice_columns(queries)}
    raws = load_splits(DataSource(files=FilesSource(train=tuple(files))), columns, frame)
    raw, target = raws["train"], spec.data.target
    refuse_no_rows(raws, f"new rows of `{spec.name}`")
    target_columns = [target.column] if target.column else template_fields(target.template or "")
    labelled = set(target_columns) <= set(raw.columns)
    # Where there is no answer, the input stands in for it, so that the same code renders and checks the rows.
    data = spec.data if labelled else spec.data.model_copy(update={"target": TargetSpec(template=spec.data.input)})
    check_columns(raws, data.columns())
    rows, bad = build_rows(raw, data, _labels(spec, labels, raws) if labelled and labels else None)
    present = {*raw.columns, "input", *(["target"] if labelled else [])}
    members = slice_members([query for query in queries if slice_columns([query]) <= present], rows, raws)
    return NewRows(
        examples=tuple(Example(_new_id(r.id), r.input, r.target if labelled else "", members[r.id]) for r in rows),
        labelled=labelled,
        bad=tuple(row.model_copy(update={"id": _new_id(row.id)}) for row in bad),
    )


def _new_id(id: str) -> str:
    return id.replace("train/", "new/", 1)


def _labels(spec: PromptSpec, words: Sequence[str], raws: dict[str, RawSplit]) -> Labels:
    """The champion's labels. What occurs in a few new rows says nothing about which labels there are."""
    if spec.data.target.labels is not None:
        return find_labels(spec.data.target, raws)
    by_value = {label_text(word): word for word in words}
    if spec.data.source.hub is not None:  # a data set with named classes, whose rows hold their numbers
        by_value = {str(number): word for number, word in enumerate(words)} | by_value
    return Labels(tuple(words), by_value)
