"""Readers of single files. Cells keep their exact types, and text files remember the line of every row.

The standard library's ``json`` and ``csv`` are used and not pandas, which turns "007" into 7, "NA" into NaN and integers beside a
missing value into floats, fills short lines up in silence and does not tell line numbers.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from softprompt_core.data.sources import Part, plain_cells
from softprompt_core.errors import InvalidInput


def read_jsonl(path: Path, wanted: Collection[str]) -> Part:
    """One JSON object a line, plain or gzipped; blank lines are skipped."""
    records, lines = [], []
    # Not str.splitlines: it also breaks at characters that may stand inside a JSON text.
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InvalidInput(
                f"is not valid JSON: {error}", where=f"{path}:{number}", do="write one JSON object a line"
            ) from None
        if not isinstance(record, dict):
            raise InvalidInput(
                f"holds {_kind(record)}, not an object", where=f"{path}:{number}", do="write one JSON object a line"
            )
        records.append(record)
        lines.append(number)
    return _from_records(path, records, wanted, lines)


def read_json(path: Path, wanted: Collection[str]) -> Part:
    """A JSON list of objects."""
    try:
        records = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise InvalidInput(
            f"is not valid JSON: {error}", where=f"{path}:{error.lineno}", do="write a JSON list of objects"
        ) from None
    if not isinstance(records, list):
        raise InvalidInput(
            f"holds {_kind(records)}, not a list", where=str(path), do="write a JSON list of objects, or use .jsonl"
        )
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            raise InvalidInput(
                f"holds {_kind(record)}, not an object", where=f"{path}, row {number}", do="write a JSON list of objects"
            )
    return _from_records(path, records, wanted, None)


def read_csv(path: Path, wanted: Collection[str]) -> Part:
    """Comma-separated, with a header. Every cell stays text: "NA" and "007" are what they are, an empty cell is empty text."""
    csv.field_size_limit(2**31 - 1)  # the default, 131,072 characters, is shorter than some documents
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    header: list[str] = []
    begins = 1
    try:
        for row in reader:
            if not header:
                header = row
            elif row:
                if len(row) != len(header):
                    raise InvalidInput(
                        f"has {len(row)} cells, the header has {len(header)}",
                        where=f"{path}:{begins}",
                        do="quote cells that hold commas, quotes or line breaks",
                    )
                rows.append(row)
                lines.append(begins)
            begins = reader.line_num + 1
    except csv.Error as error:
        raise InvalidInput(f"is not valid CSV: {error}", where=f"{path}:{begins}", do="check the quotes on this line") from None
    for column in wanted:
        if header.count(column) > 1:
            raise InvalidInput(f"two columns are called `{column}`", where=f"{path}:1", do="rename one")
    places = {column: header.index(column) for column in wanted if column in header}
    return Part(
        name=str(path),
        columns=tuple(header),
        rows=len(rows),
        cells={column: [row[place] for row in rows] for column, place in places.items()},
        lines=lines,
    )


def read_parquet(path: Path, wanted: Collection[str]) -> Part:
    """Parquet. Read with pyarrow: pandas would turn integers beside a null into floats."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = tuple(file.schema_arrow.names)
            table = file.read(columns=[column for column in columns if column in wanted])
            rows = file.metadata.num_rows
    except pyarrow.ArrowException as error:
        raise InvalidInput(f"is not a readable Parquet file: {error}", where=str(path), do="write the file again") from None
    cells = {column: plain_cells(table.column(column).to_pylist()) for column in table.column_names}
    return Part(name=str(path), columns=columns, rows=rows, cells=cells)


def _from_records(path: Path, records: list[dict[str, Any]], wanted: Collection[str], lines: list[int] | None) -> Part:
    columns = tuple({key: None for record in records for key in record})
    cells = {column: plain_cells([record.get(column) for record in records]) for column in wanted if column in columns}
    return Part(name=str(path), columns=columns, rows=len(records), cells=cells, lines=lines)


def _text(path: Path) -> str:
    data = path.read_bytes()
    if path.suffix.lower() == ".gz":
        try:
            data = gzip.decompress(data)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InvalidInput(f"is not a complete gzip file: {error}", where=str(path), do="compress the file again") from None
    try:
        return data.decode("utf-8-sig")  # spreadsheets like to put a byte order mark first
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        do = f"convert it, for instance: iconv -f latin1 -t utf8 {path.name}"
        raise InvalidInput(f"is not UTF-8 (byte 0x{data[error.start]:02x})", where=f"{path}:{line}", do=do) from None


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
