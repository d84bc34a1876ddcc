"""Named subsets: pandas queries over the columns, from a small and harmless part of the language.

Allowed: column names (in backticks where they are no identifiers), constants, comparisons, ``and or not in & | ~``, arithmetic,
``len(text)``, ``float(text)`` and the methods listed here. pandas evaluates the expression and sees the row alone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from softprompt_core.data.rows import Row
from softprompt_core.data.sources import RawSplit
from softprompt_core.errors import InvalidInput, closest

# Methods that look at one cell alone: a row's slices may not depend on what other rows there are.
_OF_COLUMN = ("between", "isin", "isna", "isnull", "notna", "notnull")
_OF_TEXT = ("casefold", "contains", "count", "endswith", "fullmatch", "len", "lower", "match", "startswith", "strip", "upper")
_FUNCTIONS = ("len", "float")
_RENDERED = ("input", "target")
_NODES = (
    *(ast.Expression, ast.BoolOp, ast.boolop, ast.UnaryOp, ast.unaryop, ast.Compare, ast.cmpop, ast.BinOp),
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.BitAnd, ast.BitOr),
    *(ast.Call, ast.keyword, ast.Attribute, ast.Name, ast.Load, ast.Constant, ast.List, ast.Tuple),
)
# A text in quotes, which is left alone, or a column in backticks.
_QUOTED = re.compile(r"""('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|`([^`]+)`""")


@dataclass(frozen=True)
class SliceQuery:
    """A slice's expression, checked to be harmless."""

    name: str
    written: str
    """What the user wrote."""
    expression: str
    """The same with an identifier for each column."""
    columns: Mapping[str, str]
    """identifier → column."""

    def error(self, problem: str, columns: Sequence[str] = ()) -> InvalidInput:
        example = f"over the columns: {', '.join(columns)}" if columns else "such as `len(text) > 120`"
        do = f"write a pandas query {example}"
        return InvalidInput(f"the slice `{self.written}` {problem}", where=f"data.slices.{self.name}", do=do)


def parse_slice(name: str, written: str) -> SliceQuery:
    """Read a slice's expression and the columns that it names.

    Raises:
        InvalidInput: it cannot be read, or holds something that a slice may not do.
    """
    quoted: dict[str, str] = {}

    def identifier(match: re.Match[str]) -> str:
        if match[1]:
            return match[1]
        return quoted.setdefault(match[2], f"quoted_column_{len(quoted)}")

    expression = " ".join(_QUOTED.sub(identifier, written).splitlines()).strip()  # YAML may give several lines
    query = SliceQuery(name, written, expression, {})
    try:
        tree = ast.parse(expression, mode="eval")
    except (SyntaxError, ValueError, RecursionError) as error:
        raise query.error(f"cannot be read: {getattr(error, 'msg', error)}") from None
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    unquoted = {placeholder: column for column, placeholder in quoted.items()}
    columns = {}
    for node in ast.walk(tree):
        problem = _problem(node, called)
        if problem:
            raise query.error(problem)
        if isinstance(node, ast.Name) and id(node) not in called:
            columns[node.id] = unquoted.get(node.id, node.id)
    if not columns:
        raise query.error("names no column")
    return SliceQuery(name, written, expression, columns)


def slice_columns(queries: Sequence[SliceQuery]) -> set[str]:
    """The columns that slices name, rendered texts (``input``, ``target``) included."""
    return {column for query in queries for column in query.columns.values()}


def slice_flags(query: SliceQuery, cells: Mapping[str, list[Any]], names: Sequence[str]) -> list[bool]:
    """Whether each row belongs to the slice.

    Args:
        cells: column → cells ``[rows]``, for every column of the query.
        names: the columns that a user may name, for errors.

    Raises:
        InvalidInput: the expression does not fit the cells, or does not say true or false for each row.
    """
    import pandas as pd

    frame = pd.DataFrame({identifier: cells[column] for identifier, column in query.columns.items()})
    functions: dict[str, Callable[[Any], Any]] = {
        "len": lambda texts: texts.map(len, na_action="ignore"),
        "float": lambda texts: pd.to_numeric(texts, errors="coerce"),
    }
    functions = {name: function for name, function in functions.items() if name not in query.columns}
    try:
        flags = frame.eval(query.expression, engine="python", resolvers=(functions,))
    except Exception as error:  # whatever pandas raises for a user's expression, it is the expression that does not fit
        problem = f"does not fit the data: {error} (a cell of a csv file is text; float(column) makes it a number)"
        raise query.error(problem, names) from None
    if not isinstance(flags, pd.Series) or not pd.api.types.is_bool_dtype(flags.dtype):
        raise query.error("does not say true or false for each row", names)
    return [bool(flag) for flag in flags.fillna(False)]


def slice_members(queries: Sequence[SliceQuery], rows: Sequence[Row], raws: Mapping[str, RawSplit]) -> dict[str, frozenset[str]]:
    """Row id → names of the slices that the row belongs to.

    ``input`` and ``target`` stand for the rendered texts where the data have no such columns. The split that test rows come from
    must have every column of a slice; other splits that lack one have no rows in it.

    Raises:
        InvalidInput: a slice names an unknown column or does not fit the cells.
    """
    members: dict[str, set[str]] = {row.id: set() for row in rows}
    test_source = raws.get("test", raws["train"])
    names = tuple(dict.fromkeys((*test_source.columns, *_RENDERED)))
    for query in queries:
        columns = tuple(query.columns.values())
        for column in columns:
            if column not in names:
                close = closest(column, names)
                hint = f"; did you mean `{close}`?" if close else ""
                raise query.error(f"names `{column}`, which is no column{hint}", names)
        fitting = {name for name, raw in raws.items() if set(columns) <= {*raw.columns, *_RENDERED}}
        # All splits at once, so that a column has one type even where some split holds nothing but gaps in it.
        candidates = [row for row in rows if row.source in fitting]
        cells = {column: [_cell(raws[row.source], column, row) for row in candidates] for column in columns}
        for row, flag in zip(candidates, slice_flags(query, cells, names), strict=True):
            if flag:
                members[row.id].add(query.name)
    return {row: frozenset(slices) for row, slices in members.items()}


def _cell(raw: RawSplit, column: str, row: Row) -> Any:
    if column in raw.columns:
        return raw.cells[column][row.index]
    return row.input if column == "input" else row.target


def _problem(node: ast.AST, called: set[int]) -> str | None:
    if not isinstance(node, _NODES) or isinstance(node, (ast.Is, ast.IsNot)):
        return f"may not use {type(node).__name__}"
    if isinstance(node, ast.Attribute) and node.attr != "str":
        of_text = isinstance(node.value, ast.Attribute) and node.value.attr == "str"
        allowed = _OF_TEXT if of_text else _OF_COLUMN
        if node.attr not in allowed or id(node) not in called:
            kind = "on .str" if of_text else "on a column (texts have more under .str)"
            return f"may not use `.{node.attr}`; methods {kind}: {', '.join(allowed)}"
    for values in _searched(node):
        if not isinstance(values, (ast.List, ast.Tuple)) or any(isinstance(part, ast.Name) for part in ast.walk(values)):
            return "may look for a value in a list of constants only; for a part of a text use .str.contains"
    if isinstance(node, ast.Name) and id(node) in called and node.id not in _FUNCTIONS:
        return f"may not call `{node.id}`; allowed: {', '.join(_FUNCTIONS)}"
    return None


def _searched(node: ast.AST) -> list[ast.expr]:
    """What ``in``, ``not in`` and ``isin`` search. pandas takes a column there for the cells of all rows."""
    if isinstance(node, ast.Compare):
        return [right for op, right in zip(node.ops, node.comparators, strict=True) if isinstance(op, (ast.In, ast.NotIn))]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "isin":
        return [*node.args, *(keyword.value for keyword in node.keywords)]
    return []
