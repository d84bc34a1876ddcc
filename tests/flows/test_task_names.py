"""A word of the command line is a task, whatever it looks like, unless it can only be a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.cli.registry.copy import _Target
from flows.monitor import resolve
from flows.revalidate import _expand
from softprompt_core.errors import InvalidInput
from softprompt_core.operations.monitor import check_health
from softprompt_core.store.connection import Store
from tests.toy_task import write_toy


def test_a_task_called_like_a_file_is_a_task_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reviews").mkdir()
    (tmp_path / "plain").write_text("no spec")
    for name in ("x.yaml", "reviews", "plain"):
        assert resolve(name) == (name, None, None)
        assert _expand([name]) == [name]
        assert (_Target.parse(name).name, _Target.parse(name).spec) == (name, None)
    assert _Target.parse("x.yaml@3").which == "3"


def test_a_file_that_is_there_and_a_path_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_toy(tmp_path / "specs", "bundled", name="x.yaml")
    path.rename(tmp_path / "mine.yaml")
    for target in ("mine.yaml", "./mine.yaml", str(tmp_path / "mine.yaml")):
        assert resolve(target)[0] == _Target.parse(target).name == "x.yaml"
        assert _expand([target]) == [Path(target)]
    (tmp_path / "mine.yaml").rename(path)
    assert _expand(["specs"]) == [Path("specs") / path.name]
    for missing in ("specs/none.yaml", "./none.yaml"):
        with pytest.raises(InvalidInput, match="no such spec file"):
            resolve(missing)


def test_a_name_that_is_neither_is_told_as_both(blank_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTPROMPT_HOME", str(blank_database.parent))
    with pytest.raises(
        InvalidInput, match=r"none\.yaml: no version is registered under this name, and there is no such spec file"
    ):
        check_health(Store.connect(), "none.yaml")
