"""Two versions side by side, from what a real record holds about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from softprompt_core import registry
from softprompt_core.data import load_task_data
from softprompt_core.errors import InvalidInput
from softprompt_core.evaluation import Predictions
from softprompt_core.registry import tags
from softprompt_core.spec import load_spec
from softprompt_core.stages import record, reporting
from softprompt_core.stages.comparing import Comparison, compare
from softprompt_core.stages.evaluation import evaluate
from softprompt_core.stages.evidence import Evidence
from softprompt_core.stages.gate_report import log_gate_report
from softprompt_core.stages.inputs import gather
from softprompt_core.stages.promotion import act, judge
from softprompt_core.stages.registration import register
from softprompt_core.stages.training import train_seeds
from tests.toy_task import rows, write_rows, write_toy

SHORT = {"max_steps": 4, "eval_every": 2, "batch_size": 16}


def lifecycle(path: Path) -> str:
    """One version with the run that a reviewer reads; returns the run's id."""
    spec, client = load_spec(path), record.client()
    champion = registry.by_alias(client, spec.name, tags.CHAMPION)
    inputs = gather(spec)
    (trained,) = train_seeds(spec, inputs)
    number = champion.version if champion else None
    folder = registry.download(client, spec.name, number, inputs.workspace.folder / f"champion-{number}") if number else None
    evidence = Evidence.load(evaluate(spec, inputs, Path(trained.prompt), folder))
    decision = judge(spec, evidence)
    experiment, run_id = reporting.open_run(client, spec, inputs, None)
    reporting.log_rows(client, run_id, inputs)
    reporting.log_data(client, run_id, load_task_data(inputs.workspace.data).report)
    version = register(spec, inputs, client, run_id, Path(trained.prompt), "words").version
    reporting.log_evaluation(client, run_id, inputs, evidence, decision)
    log_gate_report(
        client, spec, inputs, evidence, decision, trained,
        experiment=experiment, run_id=run_id, version=version, champion=number, prefect_url=None,
    )  # fmt: skip
    act(client, spec, version, number, decision, run_id, by="a test")
    return run_id


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("comparing") / "home"


@pytest.fixture(autouse=True)
def at_home(home: Path, isolated_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTPROMPT_HOME", str(home))


@pytest.fixture(scope="module")
def runs(home: Path, taught_base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """1: champion. 2: a short training on the same rows, rejected. 3: other training and test rows."""
    folder = tmp_path_factory.mktemp("toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTPROMPT_HOME", str(home))
        found = [lifecycle(write_toy(folder, taught_base)), lifecycle(write_toy(folder, taught_base, training=SHORT))]
        table = rows(80, seed=0)
        for row in table[:10]:
            row["label"] = {"positive": "negative", "negative": "positive"}[row["label"]]
        write_rows(folder / "train.csv", table)
        write_rows(folder / "test.csv", rows(40, seed=9))
        return [*found, lifecycle(write_toy(folder, taught_base, prompt={"length": 6}))]


def both(a: str, b: str) -> Comparison:
    return compare(record.client(), "toy", a, b)


def test_versions_on_the_same_rows_are_compared_answer_by_answer(runs: list[str]) -> None:
    found = both("1", "2")
    stored = [
        Predictions.from_json(registry.read_json(record.client(), run, "evaluation/evidence.json")["candidate"]) for run in runs
    ]
    differ = [i for i, a, b in zip(stored[0].ids, stored[0].predicted, stored[1].predicted, strict=True) if a != b]
    assert found.rows == "both on the same 32 test rows" and found.changed is not None
    assert {row.id for row in found.changed.rows} == set(differ) != set()
    assert all(row.input for row in found.changed.rows)
    assert found.metrics["accuracy"][0] > found.metrics["accuracy"][1]
    assert set(found.spec) == {"training.max_steps", "training.eval_every", "training.patience"}
    assert found.spec["training.max_steps"] == (60, 4)


def test_a_champion_that_was_judged_against_is_compared_on_those_rows(runs: list[str]) -> None:
    found = both("1", "3")
    assert found.rows.startswith("on the 40 test rows on which version 3 was judged against version 1")
    assert found.changed is not None and found.changed.compared == 40
    back = both("3", "1")
    assert back.metrics["accuracy"] == tuple(reversed(found.metrics["accuracy"]))


def test_versions_on_other_rows_say_so_and_show_no_changed_answers(runs: list[str]) -> None:
    found = both("2", "3")
    assert "not to the same test rows" in found.rows and found.changed is None
    assert found.metrics["accuracy"][0] is not None and found.metrics["accuracy"][1] is not None


def test_vectors_are_compared_and_named(runs: list[str]) -> None:
    same, longer = both("1", "1"), both("1", "v3")
    assert same.vectors is not None and same.vectors.by_place == pytest.approx((1.0,) * 4)
    assert both("champion", "3").a == 3
    assert same.tokens[0] == same.tokens[1] and len(same.tokens[0] or ()) == 4 and not same.spec
    assert longer.vectors is not None and longer.vectors.by_place is None and len(longer.tokens[1] or ()) == 6
    assert same.to_json()["changed"] == {"compared": 32, "changed": []}


@pytest.mark.parametrize("given", ["9", "nobody"])
def test_versions_that_do_not_exist_are_told(runs: list[str], given: str) -> None:
    with pytest.raises(InvalidInput, match=r"no such version|no version has this alias"):
        both("1", given)


def test_the_run_holds_the_gate_report_with_what_changed_in_the_data(runs: list[str], tmp_path: Path) -> None:
    client: Any = record.client()
    files = {item.path for item in client.list_artifacts(runs[2], "gates")}
    assert {"gates/report.html", "gates/report.png"} <= files
    text = Path(client.download_artifacts(runs[2], "gates/report.html", str(tmp_path))).read_text(encoding="utf-8")
    assert text.index("toy version 3: ") < text.index("Why: the gates") < text.index("Since version 1:")
    assert "<td>train</td>" in text and client.get_run(runs[2]).data.tags[tags.COMPARED_WITH] == "1"
    same = Path(client.download_artifacts(runs[1], "gates/report.html", str(tmp_path))).read_text(encoding="utf-8")
    assert "Version 1 was trained on the same data." in same
