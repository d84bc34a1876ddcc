"""What makes a task's data unusable as a whole; each refusal names the place and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from softprompt_core.data.labels import Labels
from softprompt_core.data.report import BadRow
from softprompt_core.data.rows import Row
from softprompt_core.data.sources import RawSplit
from softprompt_core.errors import InvalidInput, closest

_SHOWN = 10


def refuse_no_rows(raws: Mapping[str, RawSplit], where: str) -> None:
    """Raises InvalidInput if the source has a split without a row."""
    for raw in raws.values():
        if not raw.rows:
            problem = f"the {raw.name} split is empty: no rows in {raw.sources()}"
            raise InvalidInput(problem, where=where, do="give it rows, or leave it out")


def check_columns(raws: Mapping[str, RawSplit], columns: Sequence[str]) -> None:
    """Every part with rows has every column.

    Raises:
        InvalidInput: a column is missing; names the file, its columns and the nearest name.
    """
    for raw in raws.values():
        for part in raw.parts:
            for column in columns:
                if column not in part.columns and part.rows:
                    problem = f"has no column `{column}`; its columns: {', '.join(part.columns)}"
                    raise InvalidInput(problem, where=part.name, do=_column_advice(column, part.columns))


def _column_advice(column: str, columns: Sequence[str]) -> str:
    outer = column.partition(".")[0]
    if outer != column and outer in columns:
        return f"nothing is looked up inside the cells of `{outer}`: give its parts columns of their own"
    close = closest(column, columns)
    return f"did you mean `{close}`?" if close else "correct the column's name in data.input or data.target"


def refuse_too_many(bad: Sequence[BadRow], allowed: int, where: str) -> None:
    """Raises InvalidInput that shows the first bad rows if there are more than ``data.max_bad_rows``."""
    if len(bad) <= allowed:
        return
    rows = "".join(f"\n  {row}" for row in bad[:_SHOWN])
    more = f"\n  … and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    do = f"correct them, or set data.max_bad_rows: {len(bad)} to leave them out"
    if sum("unknown label '-1'" in row.problem for row in bad) > len(bad) / 2:
        do = "-1 marks labels that are kept secret: name another split under data.source.splits.test"
    count = "1 row" if len(bad) == 1 else f"{len(bad)} rows"
    raise InvalidInput(f"{count} cannot be used, data.max_bad_rows allows {allowed}:{rows}{more}", where=where, do=do)


def refuse_empty(splits: Mapping[str, Sequence[Row]], from_train: Collection[str], where: str) -> None:
    """Raises InvalidInput if no row is left in a split. ``from_train`` names the splits that were made from train."""
    for split, rows in splits.items():
        if not rows and split in from_train:
            do = "give more rows, or the splits as files of their own"
            raise InvalidInput(f"the {split} split is empty: train has too few rows to make it from", where=where, do=do)
        if not rows:
            problem = f"the {split} split is empty: every row was set aside or stands in another split as well"
            raise InvalidInput(problem, where=where, do="check that the splits are different files")


def refuse_few(train: Sequence[Row], labels: Labels, at_least: int, where: str) -> None:
    """Raises InvalidInput if training rows show fewer than two classes, or a class has too few of them."""
    counts = Counter(row.target for row in train)
    if len(counts) < 2:
        problem = f"every training row has the label {next(iter(counts))!r}; a classification task needs at least two classes"
        raise InvalidInput(problem, where=where, do="check data.target.column and the rows")
    few = [f"{word!r} has {counts[word]}" for word in labels.words if counts[word] < at_least]
    if few:
        more = f" … and {len(few) - _SHOWN} more" if len(few) > _SHOWN else ""
        raise InvalidInput(
            f"too few training rows for a class, data.min_rows_per_class is {at_least}: {', '.join(few[:_SHOWN])}{more}",
            where=where,
            do="add rows or take the label out of the data; for free text use data.target.template",
        )
