from __future__ import annotations

import hashlib
import importlib.metadata
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import softprompt_core
from softprompt_core import fingerprint as module
from softprompt_core.fingerprint import DEPENDENCIES, ROOMS, file_digest, fingerprint, library_fingerprint, tree_fingerprint

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(plain)
def test_every_json_value_has_a_fingerprint_that_stays(value: Any) -> None:
    assert fingerprint(value) == fingerprint(value)
    assert len(fingerprint(value)) == 64


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_order_of_keys_does_not_matter(value: dict[str, int]) -> None:
    assert fingerprint(value) == fingerprint(dict(reversed(value.items())))


def test_order_of_a_list_and_the_type_of_a_value_matter() -> None:
    values: list[Any] = [[1, 2], [2, 1], [1], 1, 1.0, "1", True, None, "", {}, [], ["1,2"], [["1"], "2"]]
    assert len({fingerprint(value) for value in values}) == len(values)


def test_it_is_the_sha256_of_canonical_json() -> None:
    assert fingerprint({"b": 1, "a": "ä"}) == hashlib.sha256(b'{"a":"\\u00e4","b":1}').hexdigest()


def test_half_a_character_has_a_fingerprint() -> None:
    assert fingerprint("\ud800") != fingerprint("\ud801")


@pytest.mark.parametrize("value", [{1: "a"}, {"a": {None: 1}}, [{("a",): 1}], {1, 2}, b"a", object(), Path("a")])
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        fingerprint(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [-math.inf]}])
def test_nan_and_infinity_are_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        fingerprint(value)


def test_file_digest_is_the_sha256_of_the_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert file_digest(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_changed_renamed_or_added_module_changes_the_library_and_a_cache_does_not(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "part" / "b.py").write_text("y = 1\n")
    seen = [tree_fingerprint(tmp_path)]
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_bytes(b"cache")
    (tmp_path / "notes.txt").write_text("note")
    assert tree_fingerprint(tmp_path) == seen[0]
    (tmp_path / "part" / "b.py").write_text("y = 2\n")
    seen.append(tree_fingerprint(tmp_path))
    (tmp_path / "part" / "b.py").rename(tmp_path / "part" / "c.py")
    seen.append(tree_fingerprint(tmp_path))
    (tmp_path / "d.py").write_text("")
    seen.append(tree_fingerprint(tmp_path))
    assert len(set(seen)) == 4


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of this library whose fingerprint is taken in place of the installed one's."""
    package = tmp_path / "softprompt_core"
    shutil.copytree(Path(softprompt_core.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__", "bundled"))
    monkeypatch.setattr(module, "__file__", str(package / "fingerprint.py"))
    yield package
    library_fingerprint.cache_clear()


def current() -> str:
    library_fingerprint.cache_clear()
    return library_fingerprint()


def test_a_change_in_a_room_that_can_change_a_number_changes_the_library_and_one_elsewhere_does_not(library: Path) -> None:
    before = current()
    assert all((library / room).is_dir() for room in ROOMS)
    for room in ("report", "store", "gates"):
        (library / room / "page.py").write_text("another = True\n")
    (library / "report" / "page.css").write_text("body {}")
    (library / "settings.py").write_text("")
    assert current() == before
    for room in ROOMS:
        (library / room / "new.py").write_text("x = 1\n")
        assert current() != before, room
        (library / room / "new.py").unlink()
    assert current() == before


def test_the_same_library_has_one_fingerprint_wherever_it_lies(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = current()
    monkeypatch.undo()
    assert current() == copied


@pytest.mark.parametrize("package", DEPENDENCIES)
def test_another_minor_release_of_a_model_library_changes_the_library_and_a_patch_does_not(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    installed = importlib.metadata.version

    def released(version: str) -> str:
        monkeypatch.setattr(importlib.metadata, "version", lambda name: version if name == package else installed(name))
        return current()

    assert released("9.8.7") == released("9.8.6+cpu") != released("9.9.0")
    library_fingerprint.cache_clear()


def test_the_library_fingerprint_imports_no_model_library() -> None:
    code = "import sys; from softprompt_core.fingerprint import library_fingerprint; library_fingerprint(); "
    code += "print({'torch', 'transformers'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout.strip() == "set()"
