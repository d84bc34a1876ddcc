"""A task with nothing to do is answered without Prefect, MLflow's client and torch; a configured Prefect server has its run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from softprompt_core.errors import Outcome
from softprompt_core.lifecycle.run import run_task
from tests.flows.prefect_setup import ROOT
from tests.lifecycles import at_home
from tests.toy_task import write_toy

pytestmark = pytest.mark.xdist_group("tests/flows/test_flow.py")  # for the Prefect server that it has
HEAVY = {"torch", "transformers", "sklearn", "scipy", "matplotlib", "datasets", "prefect", "mlflow", "sqlalchemy"}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, taught_base: Path, blank_database: Path) -> Path:
    """A folder with two specs whose versions stand: one was promoted, one was rejected."""
    folder = tmp_path_factory.mktemp("nothing to do")
    (folder / "home").mkdir()
    shutil.copy(blank_database, folder / "home" / "mlflow.db")
    with at_home(folder / "home"):
        for name, gates, outcome in (
            ("promoted", [{"metric": "accuracy", "at_least": 0.0}], Outcome.PROMOTED),
            ("rejected", None, Outcome.REJECTED),
        ):
            spec = write_toy(folder / "specs" / name, taught_base, name=name, training={"max_steps": 2}, gates=gates)
            assert run_task(spec).outcome is outcome
    return folder


@pytest.fixture
def specs(story: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setenv("SOFTPROMPT_HOME", str(story / "home"))
    return [story / "specs" / name / f"{name}.yaml" for name in ("promoted", "rejected")]


def results(out: str) -> list[tuple[str, str, str, int]]:
    return [(each["task"], each["outcome"], each["stands_for"], each["version"]) for each in json.loads(out)]


def test_it_imports_nothing_heavy_and_starts_no_server(specs: list[Path]) -> None:
    code = f"""
import sys
sys.argv = ["softprompt", "run", *{[str(spec) for spec in specs]}, "--json"]
from flows.cli import main
try:
    main()
except SystemExit as ended:
    from flows.servers import own_server
    print(sorted({HEAVY} & set(sys.modules)), own_server._server, ended.code, file=sys.stderr)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, env=environment)
    assert done.stderr.splitlines()[-1] == "[] None 20", done.stderr
    expected = [("promoted", "unchanged", "promoted", 1), ("rejected", "unchanged", "rejected", 1)]
    assert results(done.stdout) == expected


def test_a_configured_server_has_a_flow_run_for_each(
    specs: list[Path], prefect_server: None, here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import PREFECT_API_URL

    url = str(PREFECT_API_URL.value())
    monkeypatch.setenv("PREFECT_API_URL", url)
    code, out, err = here("run", *specs, "--json")
    assert (code, err) == (20, "")
    runs: list[dict[str, Any]] = httpx.post(f"{url}/flow_runs/filter", json={"sort": "NAME_ASC"}).json()
    runs = [run for run in runs if run["name"] in ("promoted", "rejected")]
    assert [(run["name"], run["state_type"], run["state_name"]) for run in runs] == [
        ("promoted", "COMPLETED", "Unchanged"),
        ("rejected", "COMPLETED", "Unchanged (rejected)"),
    ]
    assert "nothing was trained" in runs[0]["state"]["message"]
    assert [each["prefect_url"].rpartition("/")[2] for each in json.loads(out)] == [run["id"] for run in runs]
    flow = httpx.get(f"{url}/flows/{runs[0]['flow_id']}").json()
    assert flow["name"] == "softprompt-lifecycle"


def test_one_task_with_something_to_do_and_all_go_the_usual_way(specs: list[Path], story: Path, tmp_path: Path) -> None:
    from flows.nothing_to_do import run_all_if_unchanged
    from softprompt_core.store.connection import Store

    store = Store.connect()
    assert run_all_if_unchanged(specs, store, dry_run=True) is not None
    changed = yaml.safe_load(specs[0].read_text())
    changed["prompt"] = {"length": 3}
    other = specs[0].with_name("changed.yaml")
    other.write_text(yaml.safe_dump(changed))
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [")
    for wrong in (other, broken, tmp_path / "missing.yaml", specs[0]):  # the last: one task twice
        assert run_all_if_unchanged([*specs, wrong], store, dry_run=True) is None
