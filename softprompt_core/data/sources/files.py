"""Readers of single files. Cells keep their exact types, and text files remember the line of every row.

The standard library's ``json`` and ``csv`` are used and not pandas, which turns "007" into 7, "NA" into NaN and integers beside a
missing value into floats, fills short lines up in silence and does not tell line numbers.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from softprompt_core.data.sources.parts import Part, plain_cells
from softprompt_core.errors import InvalidInput
from softprompt_core.json_files import parse_json
from softprompt_core.text_files import decoded

_JSONL = "write one JSON object a line"
_JSON = "write a JSON list of objects"
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


def read_jsonl(path: Path, columns: Collection[str]) -> Part:
    """One JSON object a line, plain or gzipped; blank lines are skipped."""
    records, lines = [], []
    # Not str.splitlines: it also breaks at characters that may stand inside a JSON text.
    for line, text in enumerate(_text(path).split("\n"), start=1):
        if text.strip():
            records.append(_record(_parsed(text, f"{path}:{line}", _JSONL), f"{path}:{line}", _JSONL))
            lines.append(line)
    return _from_records(path, records, columns, lines)


def read_json(path: Path, columns: Collection[str]) -> Part:
    """A JSON list of objects."""
    values = _parsed(_text(path), str(path), _JSON)
    if not isinstance(values, list):
        raise InvalidInput(f"holds {_kind(values)}, not a list", where=str(path), do=f"{_JSON}, or use .jsonl")
    records = [_record(value, f"{path}, row {row}", _JSON) for row, value in enumerate(values)]
    return _from_records(path, records, columns, None)


def read_csv(path: Path, columns: Collection[str]) -> Part:
    """Comma-separated, with a header. Every cell stays text: "NA" and "007" are what they are, an empty cell is empty text."""
    csv.field_size_limit(2**31 - 1)  # the default, 131,072 characters, is shorter than some documents
    text = _text(path)
    _refuse_other_separators(re.split("[\r\n]", text, maxsplit=1)[0], columns, f"{path}:1")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    header: list[str] = []
    line = 1
    try:
        for row in reader:
            if not header:
                header = row
            elif row:
                if len(row) != len(header):
                    problem = f"has {len(row)} cells, the header has {len(header)}"
                    do = "quote cells that hold commas, quotes or line breaks"
                    raise InvalidInput(problem, where=f"{path}:{line}", do=do)
                rows.append(row)
                lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise InvalidInput(f"is not valid CSV: {error}", where=f"{path}:{line}", do="check the quotes on this line") from None
    refuse_repeated_columns(header, columns, f"{path}:1")
    indexes = {column: header.index(column) for column in columns if column in header}
    cells = {column: [row[index] for row in rows] for column, index in indexes.items()}
    return Part(name=str(path), columns=tuple(header), rows=len(rows), cells=cells, lines=lines)


def read_parquet(path: Path, columns: Collection[str]) -> Part:
    """Parquet. Read with pyarrow: pandas would turn integers beside a null into floats."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = tuple(file.schema_arrow.names)
            refuse_repeated_columns(names, columns, str(path))
            table = file.read(columns=[name for name in names if name in columns])
            rows = file.metadata.num_rows
    except pyarrow.ArrowException as error:
        raise InvalidInput(f"is not a readable Parquet file: {error}", where=str(path), do="write the file again") from None
    cells = {column: plain_cells(table.column(column).to_pylist()) for column in table.column_names}
    return Part(name=str(path), columns=names, rows=rows, cells=cells)


def refuse_repeated_columns(names: Sequence[str], columns: Collection[str], where: str) -> None:
    """Raises InvalidInput if one of the ``columns`` to read is there twice."""
    for column in columns:
        if names.count(column) > 1:
            raise InvalidInput(f"two columns are called `{column}`", where=where, do="rename one")


def _refuse_other_separators(header: str, columns: Collection[str], where: str) -> None:
    """Raises InvalidInput if the header names columns to read when it is cut at another sign than the comma."""

    def names(separator: str) -> set[str]:
        return {name.strip() for row in csv.reader([header], delimiter=separator) for name in row}

    if header.lower().startswith("sep="):
        raise InvalidInput("begins with a line that only spreadsheets read", where=where, do=f"take the line `{header}` out")
    if names(",").isdisjoint(columns):
        for separator, called in _OTHER_SEPARATORS.items():
            if not names(separator).isdisjoint(columns):
                do = "write the file again with commas between its cells (spreadsheets ask for it when they export)"
                raise InvalidInput(f"its cells are separated by {called}, not by commas", where=where, do=do)


def _parsed(text: str, where: str, do: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        if isinstance(error, json.JSONDecodeError) and "\n" in text:
            where = f"{where}:{error.lineno}"
        raise InvalidInput(f"is not valid JSON: {error}", where=where, do=do) from None


def _record(value: Any, where: str, do: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(f"holds {_kind(value)}, not an object", where=where, do=do)
    return value


def _from_records(path: Path, records: list[dict[str, Any]], columns: Collection[str], lines: list[int] | None) -> Part:
    names = tuple({key: None for record in records for key in record})
    cells = {column: plain_cells([record.get(column) for record in records]) for column in columns if column in names}
    return Part(name=str(path), columns=names, rows=len(records), cells=cells, lines=lines)


def _text(path: Path) -> str:
    data = path.read_bytes()
    if path.suffix.lower() == ".gz":
        try:
            data = gzip.decompress(data)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InvalidInput(f"is not a complete gzip file: {error}", where=str(path), do="compress the file again") from None
    return decoded(data, path)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
