"""From cells to rows with input and target; rows that cannot be used are set aside and say why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from softprompt_core.data.labels import Labels, label_text
from softprompt_core.data.look_alikes import unknown_label
from softprompt_core.data.report import BadRow, Leak
from softprompt_core.data.sources import RawSplit
from softprompt_core.data.templates import cell_problem, render
from softprompt_core.spec.data import DataSpec

_GUESSES = 100  # of what an unknown label may mean; where more are unknown, another column is


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
    """``normalised`` input: rows that share it ask the same question."""

    @property
    def id(self) -> str:
        return f"{self.source}/{self.index}"


@dataclass(frozen=True)
class CleanRows:
    """What is left for a task to use, and what was taken out."""

    splits: Mapping[str, Sequence[Row]]
    leaks: Sequence[Leak]
    """Removed because another split holds the same input."""
    bad: Sequence[BadRow]
    """Set aside because they cannot be used."""


def normalised(text: str) -> str:
    """What inputs that differ only in case and blanks have in common."""
    return " ".join(text.casefold().split())


def build_rows(raw: RawSplit, data: DataSpec, labels: Labels | None) -> tuple[list[Row], list[BadRow]]:
    """Render every row of a split. A row counts as bad once, with the first problem.

    Args:
        labels: the classes, or None for generation.
    """
    if not raw.rows:
        return [], []
    columns = data.columns()
    target = _target_of(data, labels)
    rows, bad = [], []
    for index, values in enumerate(zip(*(raw.cells[column] for column in columns), strict=True)):
        cells = dict(zip(columns, values, strict=True))
        try:
            for column, cell in cells.items():
                problem = cell_problem(cell)
                if problem is not None:
                    raise _BadCell(column, problem)
            text = render(data.input, cells)
            rows.append(Row(raw.name, index, text, target(cells), normalised(text)))
        except ValueError as error:  # another one than _BadCell: a cell that does not fit a format such as {price:.2f}
            field = error.field if isinstance(error, _BadCell) else "template"
            bad.append(BadRow(id=f"{raw.name}/{index}", place=raw.place(index), field=field, problem=str(error)))
    return rows, bad


class _BadCell(ValueError):
    def __init__(self, field: str, problem: str) -> None:
        super().__init__(problem)
        self.field = field


def _target_of(data: DataSpec, labels: Labels | None) -> Callable[[Mapping[str, Any]], str]:
    column, template = data.target.column, data.target.template
    if column is None:
        assert template is not None
        return lambda cells: render(template, cells)
    assert labels is not None
    by_value, problems = labels.by_value, dict[str, str]()

    def word(cells: Mapping[str, Any]) -> str:
        value = label_text(cells[column])
        if value not in by_value:
            if value not in problems:
                problems[value] = unknown_label(value, by_value, guess=len(problems) < _GUESSES)
            raise _BadCell(column, problems[value])
        return by_value[value]

    return word
