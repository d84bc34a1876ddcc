"""The layers of the house, held by import-linter (contracts in pyproject.toml)."""

from __future__ import annotations

import graphlib
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]


def test_imports_go_one_way() -> None:
    # The console script's module; a fresh process, because import-linter reads the configuration of its working folder.
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("package", ["softprompt_core", "tasks", "flows"])
def test_no_module_imports_itself_by_way_of_others(package: str) -> None:
    graph = grimp.build_graph(package, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # a CycleError names the modules of a circle


def test_what_flows_are_made_of_needs_no_torch(tmp_path: Path) -> None:
    code = """
import sys
import flows.fleet
print([m for m in ("torch", "transformers", "sklearn", "matplotlib", "datasets", "prefect.server", "ray") if m in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    assert result.stdout.strip() == "[]"
