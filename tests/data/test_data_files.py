"""What files give: exact cells, and errors that name file and line."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from softprompt_core.data import prepare
from softprompt_core.data.sources import load_splits
from softprompt_core.errors import InvalidInput
from softprompt_core.spec import DataSource, FilesSource

ROWS = [{"text": f"row {i}", "label": "ab"[i % 2]} for i in range(20)]
JSON = "is not valid JSON: an "
BOTH = {"text", "label"}


def read(*paths: Path | str, columns: set[str] = BOTH) -> dict[str, list[Any]]:
    return load_splits(DataSource(files=FilesSource(train=tuple(map(str, paths)))), columns)["train"].cells


@pytest.fixture
def same_rows(tmp_path: Path) -> dict[str, Path]:
    frame, lines = pd.DataFrame(ROWS), "".join(json.dumps(row) + "\n" for row in ROWS)
    paths = {kind: tmp_path / f"rows.{kind}" for kind in ("jsonl", "jsonl.gz", "json", "csv", "parquet")}
    paths["jsonl"].write_text(lines)
    paths["jsonl.gz"].write_bytes(gzip.compress(lines.encode(), mtime=0))
    paths["json"].write_text(json.dumps(ROWS))
    frame.to_csv(paths["csv"], index=False)
    frame.to_parquet(paths["parquet"])
    return paths


def test_every_format_gives_the_same_cells_and_the_same_fingerprint(same_rows: dict[str, Path], spec: Callable[..., Any]) -> None:
    assert all(read(path) == {c: [row[c] for row in ROWS] for c in BOTH} for path in same_rows.values())
    prints = {prepare(spec({"train": str(path)})).fingerprint for path in same_rows.values()}
    assert prints == {prepare(spec(), pd.DataFrame(ROWS)).fingerprint}


def test_globs_and_several_files_make_one_split_with_rows_numbered_through(
    tmp_path: Path, write_jsonl: Callable[..., str]
) -> None:
    for name, rows in (("b-2.jsonl", ROWS[10:]), ("b-1.jsonl", ROWS[:10]), ("a.jsonl", [])):
        write_jsonl(name, rows)
    assert read(tmp_path / "b-*.jsonl")["text"] == [row["text"] for row in ROWS]
    split = load_splits(DataSource(files=FilesSource(train=(str(tmp_path / "*.jsonl"),))), BOTH)["train"]
    assert split.rows == 20
    assert split.place(0) == f"{tmp_path / 'b-1.jsonl'}:1"
    assert split.place(12) == f"{tmp_path / 'b-2.jsonl'}:3"


def test_a_file_whose_name_looks_like_a_glob_is_found(tmp_path: Path, write_jsonl: Callable[..., str]) -> None:
    assert len(read(write_jsonl("rows[1].jsonl", ROWS))["text"]) == 20


def test_csv_cells_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('\ufefftext,label\nNA,007\nnull,1.0\nnan,\n"two\nlines, and a ""quote""",True\n\nlast,x\n', encoding="utf-8")
    assert read(path) == {
        "text": ["NA", "null", "nan", 'two\nlines, and a "quote"', "last"],
        "label": ["007", "1.0", "", "True", "x"],
    }


def test_a_csv_row_is_placed_at_the_line_where_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text,label\n"two\nlines",a\n\nnext,b\n')
    split = load_splits(DataSource(files=FilesSource(train=(str(path),))), BOTH)["train"]
    assert [split.place(0), split.place(1)] == [f"{path}:2", f"{path}:5"]


def test_a_csv_cell_may_be_long(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"text,label\n{'x' * 200_000},a\n")
    assert len(read(path)["text"][0]) == 200_000


def test_jsonl_keeps_types_and_unicode_line_separators(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"text": "a\u2028b", "label": 1}\r\n\r\n{"text": "2020-01-01"}\n{"text": NaN, "label": true}', encoding="utf-8"
    )
    assert read(path) == {"text": ["a\u2028b", "2020-01-01", None], "label": [1, None, True]}


def test_parquet_integers_stay_integers_beside_a_gap_and_dates_and_decimals_become_text(tmp_path: Path) -> None:
    table = pa.table({"label": pa.array([1, None], pa.int8()), "text": [date(2020, 1, 2), None], "n": [Decimal("1.50"), None]})
    pq.write_table(table, tmp_path / "rows.parquet")
    cells = read(tmp_path / "rows.parquet", columns={"label", "text", "n"})
    assert cells == {"label": [1, None], "text": ["2020-01-02", None], "n": ["1.50", None]}
    assert type(cells["label"][0]) is int


@pytest.mark.parametrize(
    ("name", "content", "line", "problem"),
    [
        ("broken.jsonl", b'{"text": "a"}\n\n{"text": \n', ":3:", "is not valid JSON"),
        ("list.jsonl", b'{"text": "a"}\n[1]\n', ":2:", "holds a list, not an object"),
        ("latin.jsonl", b'{"text": "a"}\n{"text": "\xe4"}\n', ":2:", "is not UTF-8 (byte 0xe4)"),
        ("latin.csv", b"text,label\na,b\n\xe4,b\n", ":3:", "is not UTF-8"),
        ("ragged.csv", b"text,label\na,b\na,b,c\n", ":3:", "has 3 cells, the header has 2"),
        ("short.csv", b"text,label\na\n", ":2:", "has 1 cells, the header has 2"),
        ("quote.csv", b'text,label\na,b\n"a,b\nc,d\n', ":3:", "is not valid CSV"),
        ("twice.csv", b"text,text,label\na,b,c\n", ":1:", "two columns are called `text`"),
        ("broken.json", b'[{"text": "a"},\n{"text" 1}]', ":2:", "is not valid JSON"),
        ("object.json", b'{"text": "a"}', ":", "holds an object, not a list"),
        ("numbers.json", b'[{"text": "a"}, 7]', ", row 1:", "holds a number, not an object"),
        ("cut.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 100, mtime=0)[:30], ":", "is not a complete gzip file"),
        ("text.jsonl.gz", b'{"text": "a"}\n', ":", "is not a complete gzip file"),
        ("text.parquet", b"text,label\n", ":", "is not a readable Parquet file"),
        ("rows.xlsx", b"", ":", "unknown kind of file"),
        (
            "twice.jsonl",
            b'{"text": "a"}\n{"text": "a", "label": 1, "text": "b"}\n',
            ":2:",
            JSON + "object has the key `text` twice",
        ),
        ("twice.json", b'[{"text": "a", "deep": {"x": 1, "x": 2}}]', ":", JSON + "object has the key `x` twice"),
        ("digits.jsonl", b'{"text": "a"}\n{"text": ' + b"9" * 5000 + b"}\n", ":2:", "is not valid JSON"),
        ("digits.json", b'[{"text": ' + b"9" * 5000 + b"}]", ":", "is not valid JSON"),
        ("deep.jsonl", b'{"text": "a"}\n' + b"[" * 100_000 + b"\n", ":2:", "is not valid JSON"),
        ("deep.json", b"[" * 100_000, ":", "is not valid JSON"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, name: str, content: bytes, line: str, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput) as caught:
        read(tmp_path / name)
    assert f"{tmp_path / name}{line} {problem}" in str(caught.value)
    assert caught.value.do


def test_a_parquet_file_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array(["c"])], names=["text", "text", "label"])
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(InvalidInput, match=r"rows.parquet: two columns are called `text`"):
        read(tmp_path / "rows.parquet")


WIDE = "text,label\n" + "\u00e4 row,a\nother,b\n" * 5


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["my rows.csv", "my rows.csv.gz.jsonl.gz"])
def test_a_wide_encoding_is_named_and_the_advice_converts_it(tmp_path: Path, name: str, encoding: str) -> None:
    data = WIDE.encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    with pytest.raises(InvalidInput, match=r"is UTF-(16|16LE|16BE|32), not UTF-8") as refused:
        read(tmp_path / name)
    assert refused.value.do is not None
    command = refused.value.do.partition("for instance: ")[2]
    subprocess.run(command, shell=True, cwd=tmp_path, check=True, timeout=20)
    (converted,) = tmp_path.glob("*-utf8*")
    assert converted.read_text(encoding="utf-8-sig") == WIDE


@pytest.mark.parametrize(
    ("content", "called"),
    [
        ("text;label\n1,5 Euro;a\n", "semicolons"),
        ('"text";"label"\r\n"a;b";"c"\r\n', "semicolons"),
        ("id;text\r1;a\r", "semicolons"),
        ("text\tlabel\na\tb\n", "tabs"),
        ("text|label\na|b\n", "vertical bars"),
    ],
)
def test_another_separator_than_the_comma_is_called_by_its_name(tmp_path: Path, content: str, called: str) -> None:
    (tmp_path / "rows.csv").write_text(content, newline="")
    with pytest.raises(InvalidInput) as refused:
        read(tmp_path / "rows.csv")
    assert f"rows.csv:1: its cells are separated by {called}, not by commas" in str(refused.value)


def test_a_line_for_spreadsheets_before_the_header_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("sep=;\ntext;label\na;b\n")
    with pytest.raises(InvalidInput, match="only spreadsheets read") as refused:
        read(tmp_path / "rows.csv")
    assert refused.value.do == "take the line `sep=;` out"


def test_a_header_may_hold_other_signs_where_commas_separate(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a;b,text,label\nx,y,z\n")
    assert read(tmp_path / "rows.csv") == {"text": ["y"], "label": ["z"]}


def test_a_folder_s_name_may_hold_the_signs_of_a_pattern(tmp_path: Path, spec: Callable[..., Any]) -> None:
    folder = tmp_path / "my data [v1]" / "a*b"
    folder.mkdir(parents=True)
    for name in ("one.jsonl", "two.jsonl"):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert len(read(folder / "*.jsonl")["text"]) == 40
    assert len(read(folder / "one.jsonl")["text"]) == 20
    for name, words in (("*.csv", "no file matches the pattern"), ("none.csv", "no such file")):
        with pytest.raises(InvalidInput, match=words):
            read(folder / name)


def test_a_hub_folder_s_name_may_hold_them_too(tmp_path: Path, spec: Callable[..., Any]) -> None:
    folder = tmp_path / "my data [v1]"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert load_splits(DataSource(hub=str(folder)), BOTH)["train"].rows == 20


def test_a_pipe_in_a_file_s_place_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(InvalidInput, match="is a pipe or a device"):
        read(tmp_path / "rows.jsonl")


def test_a_column_s_name_may_hold_dots(tmp_path: Path, spec: Callable[..., Any], write_jsonl: Callable[..., str]) -> None:
    rows = [{"reviews.text": row["text"], "reviews.rating": i % 2} for i, row in enumerate(ROWS)]
    made = spec(
        {"train": write_jsonl("rows.jsonl", rows)},
        input="{reviews.text}!",
        target={"column": "reviews.rating"},
        slices={"long": "`reviews.text`.str.len() > 5"},
    )
    data = prepare(made)
    assert data.columns == ("reviews.text",) and data.splits["train"][0].input.startswith("row ")
    nested = spec({"train": write_jsonl("nested.jsonl", [{"reviews": {"text": "a"}, "label": "b"}])}, input="{reviews.text}")
    with pytest.raises(InvalidInput, match="nothing is looked up inside the cells of `reviews`"):
        prepare(nested)
    with pytest.raises(InvalidInput, match=r"no column `reviews\.txt`; .*\n.*did you mean `reviews\.text`"):
        prepare(made.model_copy(update={"data": made.data.model_copy(update={"input": "{reviews.txt}"})}))


def test_numbers_that_python_can_hardly_write_make_a_bad_row_and_no_more(
    write_jsonl: Callable[..., str], spec: Callable[..., Any]
) -> None:
    odd = [10**400, 10**4000, 1e300, -0.0, 5.0, 2**70]
    path = write_jsonl("rows.jsonl", [*ROWS, *({"text": number, "label": "a"} for number in odd)])
    data = prepare(spec({"train": path}, max_bad_rows=1))
    assert [(bad.id, bad.problem) for bad in data.report.bad_rows] == [("train/21", "is an integer of thousands of digits")]
    inputs = {example.id: example.input for rows in data.splits.values() for example in rows}
    assert [inputs[f"train/{n}"] for n in (20, 22, 23, 24, 25)] == [str(10**400), "1e+300", "0", "5", str(2**70)]
    # In columns of their own such numbers meet a format that no float can follow.
    numbers = [{**row, "n": 10**400 if i == 3 else i} for i, row in enumerate(ROWS)]
    formatted = prepare(spec({"train": write_jsonl("n.jsonl", numbers)}, input="{text} {n:.1f}", max_bad_rows=1))
    assert [bad.id for bad in formatted.report.bad_rows] == ["train/3"]


@pytest.mark.parametrize(
    ("name", "problem"), [("none.jsonl", "no such file"), ("*.jsonl", "no file matches"), (".", "is a folder")]
)
def test_a_missing_file_is_named(tmp_path: Path, name: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        read(tmp_path / name)


def test_a_changed_file_is_read_anew(write_jsonl: Callable[..., str], spec: Callable[..., Any]) -> None:
    before = prepare(spec({"train": write_jsonl("train.jsonl", ROWS)}))
    after = prepare(spec({"train": write_jsonl("train.jsonl", [{**ROWS[0], "text": "changed"}, *ROWS[1:]])}))
    assert before.fingerprint != after.fingerprint


def test_a_small_file_loads_without_the_heavy_libraries(write_jsonl: Callable[..., str]) -> None:
    path = write_jsonl("train.jsonl", [{"text": f"row {i}", "label": "ab"[i % 2]} for i in range(300)])
    code = (
        "import sys; from softprompt_core.data import prepare; from softprompt_core.spec import parse_spec\n"
        f"data = {{'source': {{'files': {{'train': {path!r}}}}}, 'input': '{{text}}', 'target': {{'column': 'label'}}}}\n"
        "prepare(parse_spec({'name': 'toy', 'data': data}))\n"
        "print([m for m in ('pandas', 'datasets', 'torch', 'mlflow', 'sklearn') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"


def test_thirty_thousand_rows_take_seconds(write_jsonl: Callable[..., str], spec: Callable[..., Any]) -> None:
    path = write_jsonl("train.jsonl", ({"text": f"some words about row {i}", "label": "ab"[i % 2]} for i in range(30_000)))
    began = time.process_time()
    data = prepare(spec({"train": path}, slices={"long": "len(text) > 24"}))
    assert time.process_time() - began < 5
    assert sum(len(rows) for rows in data.splits.values()) == 30_000
