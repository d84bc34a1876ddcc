"""docs/reference says what the code does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from softprompt_core.errors import Outcome


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    path = Path(__file__).parents[1] / "docs" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate_reference", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reference_pages_are_current(generate: ModuleType) -> None:
    assert generate.main(["--check"]) == 0, "a page is stale: run `make docs`"


def test_a_missing_a_changed_and_a_stray_page_are_stale(generate: ModuleType, tmp_path: Path) -> None:
    for name, text in {"same.md": "as made", "changed.md": "by hand", "stray.md": "of old"}.items():
        (tmp_path / name).write_text(text)
    pages = {"same.md": "as made", "changed.md": "as made", "missing.md": "as made"}
    assert generate.stale(tmp_path, pages) == ["changed.md", "missing.md", "stray.md"]


def test_every_key_option_and_outcome_has_a_meaning(generate: ModuleType) -> None:
    for name, page in generate.pages().items():
        # The last cell of a row is its meaning; the first row of a table is its head.
        unexplained = [line for line in page.splitlines() if re.search(r"^\|.*\|\s+\|$", line)]
        assert not unexplained, f"{name}: {unexplained}"


def test_the_outcome_page_shows_the_codes_that_commands_exit_with(generate: ModuleType) -> None:
    page = generate.pages()["outcomes.md"]
    for outcome in Outcome:
        code = "0, 20 or 30" if outcome is Outcome.UNCHANGED else outcome.exit_code
        assert f"| `{outcome.value}` | {code} |" in page


def test_a_bar_or_a_line_break_does_not_break_a_table(generate: ModuleType) -> None:
    assert generate.table(("Head",), [("a|b\nc",)]).splitlines() == ["| Head |", "| --- |", "| a\\|b c |"]
