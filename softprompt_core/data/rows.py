"""From cells to rows with input and target; rows that cannot be used are set aside and say why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from softprompt_core.data.labels import Labels, label_text
from softprompt_core.data.report import BadRow
from softprompt_core.data.sources import RawSplit
from softprompt_core.data.templates import cell_problem, render
from softprompt_core.spec.models import DataSpec


@dataclass(frozen=True, slots=True)
class Row:
    """A row that can be used."""

    source: str
    """The split in the source."""
    index: int
    """The row's number there, from 0."""
    input: str
    target: str
    key: str
    """The input in lower case with single blanks: rows that share it ask the same question."""

    @property
    def id(self) -> str:
        return f"{self.source}/{self.index}"


def same_text(text: str) -> str:
    """What two inputs have in common that differ in case and blanks only."""
    return " ".join(text.casefold().split())


def build_rows(raw: RawSplit, data: DataSpec, labels: Labels | None) -> tuple[list[Row], list[BadRow]]:
    """Render every row of a split. A row counts as bad once, with the first problem found.

    Args:
        labels: the classes, or None for generation.
    """
    if not raw.rows:
        return [], []
    columns = data.columns()
    cells = [raw.cells[column] for column in columns]
    target = _target_of(data, labels)
    rows, bad = [], []
    for index, values in enumerate(zip(*cells, strict=True)):
        row = dict(zip(columns, values, strict=True))
        try:
            for column in columns:
                problem = cell_problem(row[column])
                if problem is not None:
                    raise _Unusable(column, problem)
            text = render(data.input, row)
            rows.append(Row(raw.name, index, text, target(row), same_text(text)))
        except _Unusable as error:
            bad.append(BadRow(f"{raw.name}/{index}", raw.place(index), error.field, error.problem))
        except ValueError as error:  # a cell that does not fit a format such as {price:.2f}
            bad.append(BadRow(f"{raw.name}/{index}", raw.place(index), "template", str(error)))
    return rows, bad


class _Unusable(Exception):
    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field, self.problem = field, problem


def _target_of(data: DataSpec, labels: Labels | None) -> Callable[[Mapping[str, Any]], str]:
    column, template = data.target.column, data.target.template
    if column is not None:
        assert labels is not None
        words, known = labels.by_value, ", ".join(labels.by_value)

        def word(row: Mapping[str, Any]) -> str:
            text = label_text(row[column])
            if text not in words:
                raise _Unusable(column, f"unknown label {text!r}; known: {known}")
            return words[text]

        return word
    assert template is not None
    return lambda row: render(template, row)
