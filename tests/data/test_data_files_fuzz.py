"""Whatever bytes a data file holds, its rows are read or it is refused with words, and the rest of preparation takes any cell."""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from softprompt_core.data import prepare, report_markdown
from softprompt_core.errors import InvalidInput
from softprompt_core.fingerprint import fingerprint

ROWS = [{"text": f"row {i} ä", "label": "ab"[i % 2], "n": i / 2} for i in range(24)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
FRAME = pd.DataFrame(ROWS)
with io.BytesIO() as _buffer:
    FRAME.to_parquet(_buffer)
    PARQUET = _buffer.getvalue()
FILES = {
    "jsonl": LINES,
    "json": json.dumps(ROWS).encode(),
    "csv": FRAME.to_csv(index=False).encode(),
    "jsonl.gz": gzip.compress(LINES, mtime=0),
    "parquet": PARQUET,
}
PIECES = [
    *(b"", b"\0", b"\xff\xfe", b'"', b",", b";", b"\n", b"\r", b"{", b"}", b"[" * 20_000, b"9" * 5000, b"1e999", b"NaN"),
    *(b'"text": 1, "text": 2,', b"\\ud800", b"\xe2\x80\xa8", b"null", b"text,label\n", b"-0", b'{"text": {"a": [1]}}'),
]
bounded = settings(max_examples=100, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))


def prepare_or_refuse(made: Any, frame: pd.DataFrame | None = None) -> None:
    try:
        data = prepare(made, frame)
    except InvalidInput as error:
        assert len(str(error)) < 20_000
    else:
        assert all(data.splits.values())
        assert report_markdown(data.report) and fingerprint(data.report.model_dump(mode="json"))


@pytest.mark.parametrize("kind", FILES)
@bounded
@given(source=st.randoms(use_true_random=False), count=st.integers(1, 4))
def test_an_altered_file_is_read_or_refused(
    kind: str,
    source: random.Random,
    count: int,
    spec: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    data = FILES[kind]
    for _ in range(count):
        at = source.randrange(len(data) + 1)
        until = min(len(data), at + source.choice((0, 1, 1, 2, 8, 40)))
        data = data[:at] + source.choice((*PIECES, bytes([source.randrange(256)]), data[at : at + 50] * 2)) + data[until:]
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    folder.mkdir(exist_ok=True)
    path = folder / f"rows.{kind}"
    path.write_bytes(data)
    prepare_or_refuse(spec({"train": str(path)}, max_bad_rows=30, slices={"long": "len(text) > 5"}))


cells = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**300, 10**400)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["\ud800", "", " ", "1.0", "TRUE", "row 1 ä", 10**4200, "a" * 100_000]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@bounded
@given(values=st.lists(st.tuples(cells, cells), min_size=1, max_size=8), layout=st.sampled_from(["", ":.2f", ":>8", ":,", ":d"]))
def test_any_cell_makes_a_row_or_a_bad_row(values: list[tuple[Any, Any]], layout: str, spec: Callable[..., Any]) -> None:
    rows = [*ROWS, *({"text": text, "label": label, "n": 1} for text, label in values)]
    frame = pd.DataFrame(rows, dtype=object)
    for source in (
        spec(input=f"{{text{layout}}} {{n:.1f}}", max_bad_rows=40),
        spec(target={"template": "{label}"}, max_bad_rows=40),
    ):
        prepare_or_refuse(source, frame)
