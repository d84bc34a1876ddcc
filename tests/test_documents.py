"""Python code in README and docs does what stands beside it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from tests.toy_task import write_toy

ROOT = Path(__file__).parents[1]


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if blocks(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_imports_is_there(page: Path) -> None:
    for block in blocks(page):
        imports = [node for node in ast.walk(ast.parse(block)) if isinstance(node, (ast.Import, ast.ImportFrom))]
        exec(compile(ast.Module(body=imports, type_ignores=[]), page.name, "exec"), {})


def test_the_readme_s_code_checks_data_and_judges_a_prompt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    check, judge, _ = blocks(ROOT / "README.md")
    names: dict[str, Any] = {}
    exec(check, names)
    assert "train" in capsys.readouterr().out
    short = names["spec"].training.model_copy(update={"max_steps": 2})
    names["spec"] = names["spec"].model_copy(update={"training": short})
    exec(judge, names)
    assert "accuracy at least" in capsys.readouterr().out


def test_the_steps_of_the_python_interface_make_a_champion(
    taught_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {"max_steps": 4, "eval_every": 2, "batch_size": 16}
    write_toy(tmp_path, taught_base, name="task", training=training, gates=[{"metric": "accuracy", "at_least": 0.0}])
    monkeypatch.chdir(tmp_path)
    whole, steps = blocks(ROOT / "docs" / "python-api.md")
    names: dict[str, Any] = {}
    exec(steps, names)
    store, run = names["store"], names["run"]
    assert str(store.client.get_model_version_by_alias("task", "champion").version) == str(names["version"].version)
    assert store.client.get_run(run.id).info.status == "FINISHED"
    exec(whole, names)
    assert names["result"].outcome.value == "unchanged"
