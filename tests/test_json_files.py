from __future__ import annotations

from pathlib import Path

import pytest

from softprompt_core.json_files import read_json, replacing, write_json


def test_two_writers_of_one_file_never_write_into_one(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "value.json"
    with replacing(file) as first, replacing(file) as second:
        assert first != second and first.parent == second.parent == file.parent
        second.write_text("2")
        first.write_text("1")
    assert file.read_text() == "1", "the one that ends last counts"
    assert list(file.parent.iterdir()) == [file]


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "value.json"
    write_json(file, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(file, {"a": float("nan")})
    assert read_json(file) == {"a": 1} and list(tmp_path.iterdir()) == [file]
