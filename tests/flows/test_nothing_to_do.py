"""A task with nothing to do is answered without Prefect, MLflow's client and torch; a configured Prefect server has its run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from softprompt_core.errors import Outcome
from softprompt_core.lifecycle.run import run_task
from tests.flows.loaded_modules import loaded_by
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
    # Its own server is started where Prefect is imported, and nowhere else.
    loaded, code, out = loaded_by("run", *specs, "--json", among=HEAVY)
    assert (loaded, code) == ([], 20)
    expected = [("promoted", "unchanged", "promoted", 1), ("rejected", "unchanged", "rejected", 1)]
    assert results(out) == expected


def test_a_configured_server_has_a_flow_run_of_each_task_or_of_the_fleet(
    specs: list[Path], prefect_server: None, here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import PREFECT_API_URL

    url = str(PREFECT_API_URL.value())
    monkeypatch.setenv("PREFECT_API_URL", url)
    ended = [here("run", spec, "--json") for spec in specs]
    assert [(code, err) for code, _, err in ended] == [(0, ""), (20, "")]
    every: list[dict[str, Any]] = httpx.post(f"{url}/flow_runs/filter", json={"sort": "NAME_ASC"}).json()
    runs = [run for run in every if run["name"] in ("promoted", "rejected")]
    assert [(run["name"], run["state_type"], run["state_name"]) for run in runs] == [
        ("promoted", "COMPLETED", "Unchanged"),
        ("rejected", "COMPLETED", "Unchanged (rejected)"),
    ]
    assert "nothing was trained" in runs[0]["state"]["message"]
    pages = [json.loads(out)[0]["prefect_url"] for _, out, _ in ended]
    assert [page.rpartition("/")[2] for page in pages] == [run["id"] for run in runs]
    assert flow_of(url, runs[0]) == "softprompt-lifecycle"

    code, _, err = here("run", *specs)
    assert (code, err) == (20, "")
    after: list[dict[str, Any]] = httpx.post(f"{url}/flow_runs/filter", json={"sort": "NAME_ASC"}).json()
    (fleet,) = [run for run in after if run["id"] not in {run["id"] for run in every}]
    assert flow_of(url, fleet) == "softprompt-fleet" and fleet["state_type"] == "COMPLETED"
    assert fleet["state"]["message"] == "1 unchanged, 1 unchanged (rejected)"


def flow_of(url: str, run: dict[str, Any]) -> str:
    return str(httpx.get(f"{url}/flows/{run['flow_id']}").json()["name"])


def test_the_first_with_something_to_do_ends_the_look(specs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.nothing_to_do import unchanged_so_far
    from softprompt_core.store.connection import Store

    store = Store.connect()
    assert len(unchanged_so_far(specs, store, dry_run=True)) == 2
    changed = yaml.safe_load(specs[0].read_text())
    changed["prompt"] = {"length": 3}
    other = specs[0].with_name("changed.yaml")
    other.write_text(yaml.safe_dump(changed))
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [")
    for wrong in (other, broken, tmp_path / "missing.yaml", specs[0]):  # the last: one task twice
        assert len(unchanged_so_far([*specs, wrong], store, dry_run=True)) == 2
        assert unchanged_so_far([wrong, *specs], store, dry_run=True) == [] or wrong == specs[0]
    # Messages go through Prefect's blocks.
    monkeypatch.setenv("SOFTPROMPT_NOTIFY_BLOCK", "slack-webhook/team")
    monkeypatch.setenv("SOFTPROMPT_NOTIFY_ON", "unchanged")
    assert unchanged_so_far(specs, store, dry_run=True) == []


def test_a_fleet_takes_what_is_known_and_looks_at_the_rest(
    specs: list[Path], prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import fleet
    from flows.nothing_to_do import unchanged_so_far
    from softprompt_core.store.connection import Store

    known = unchanged_so_far(specs, Store.connect(), dry_run=False)
    looked: list[str] = []
    right = fleet.run_if_unchanged
    monkeypatch.setattr(fleet, "run_if_unchanged", lambda spec, **more: (looked.append(spec.name), right(spec, **more))[1])
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("name: wrong\n")
    ended = fleet.run_fleet([specs[0], wrong, specs[1]], known[:1], force=False)
    assert [result.ending for result in ended] == ["unchanged", "invalid", "unchanged (rejected)"]
    assert looked == ["rejected"]
