"""Two versions side by side, from what a real store holds about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from softprompt_core.errors import InvalidInput
from softprompt_core.operations.compare import Comparison, compare
from softprompt_core.store import tags
from softprompt_core.store.connection import Store
from tests.lifecycles import Finished, run_lifecycle
from tests.toy_task import rows, write_rows, write_toy

SHORT = {"max_steps": 4, "eval_every": 2, "batch_size": 16}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("comparing") / "home"


@pytest.fixture(autouse=True)
def at_home(home: Path, isolated_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTPROMPT_HOME", str(home))


@pytest.fixture(scope="module")
def finished(home: Path, taught_base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Finished]:
    """1: champion. 2: a short training on the same rows, rejected. 3: other training and test rows."""
    folder = tmp_path_factory.mktemp("toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTPROMPT_HOME", str(home))
        first = run_lifecycle(write_toy(folder, taught_base))
        second = run_lifecycle(write_toy(folder, taught_base, training=SHORT))
        table = rows(80, seed=0)
        for row in table[:10]:
            row["label"] = {"positive": "negative", "negative": "positive"}[row["label"]]
        write_rows(folder / "train.csv", table)
        write_rows(folder / "test.csv", rows(40, seed=9))
        return [first, second, run_lifecycle(write_toy(folder, taught_base, prompt={"length": 6}))]


def both(a: str, b: str) -> Comparison:
    return compare(Store.connect(), "toy", a, b)


def test_versions_on_the_same_rows_are_compared_answer_by_answer(finished: list[Finished]) -> None:
    comparison = both("1", "2")
    a, b = (each.results.candidate for each in finished[:2])
    differ = [row for row, before, after in zip(a.ids, a.predicted, b.predicted, strict=True) if before != after]
    assert comparison.rows == "both on the same 32 test rows" and comparison.changed is not None
    assert {row.id for row in comparison.changed.changed} == set(differ) != set()
    assert all(row.input for row in comparison.changed.changed)
    assert comparison.metrics["accuracy"][0] > comparison.metrics["accuracy"][1]
    assert set(comparison.spec) == {"training.max_steps", "training.eval_every", "training.patience"}
    assert comparison.spec["training.max_steps"] == (60, 4)


def test_a_champion_that_was_judged_against_is_compared_on_those_rows(finished: list[Finished]) -> None:
    comparison = both("1", "3")
    assert comparison.rows.startswith("on the 40 test rows on which version 3 was judged against version 1")
    assert comparison.changed is not None and comparison.changed.compared == 40
    back = both("3", "1")
    assert back.metrics["accuracy"] == tuple(reversed(comparison.metrics["accuracy"]))


def test_versions_on_other_rows_say_so_and_show_no_changed_answers(finished: list[Finished]) -> None:
    comparison = both("2", "3")
    assert "not to the same test rows" in comparison.rows and comparison.changed is None
    assert comparison.metrics["accuracy"][0] is not None and comparison.metrics["accuracy"][1] is not None


def test_vectors_are_compared_and_named(finished: list[Finished]) -> None:
    same, longer = both("1", "1"), both("1", "v3")
    assert same.vectors is not None and same.vectors.by_place == pytest.approx((1.0,) * 4)
    assert both("champion", "3").a == 3
    assert same.tokens[0] == same.tokens[1] and len(same.tokens[0] or ()) == 4 and not same.spec
    assert longer.vectors is not None and longer.vectors.by_place is None and len(longer.tokens[1] or ()) == 6
    assert same.model_dump(mode="json")["changed"] == {"compared": 32, "changed": []}


@pytest.mark.parametrize("version", ["9", "nobody"])
def test_versions_that_do_not_exist_are_told(finished: list[Finished], version: str) -> None:
    with pytest.raises(InvalidInput, match=r"no such version|no version has this alias"):
        both("1", version)


def test_the_run_holds_the_gate_report_with_what_changed_in_the_data(finished: list[Finished], tmp_path: Path) -> None:
    client = Store.connect().client
    run_ids = [each.run_id for each in finished]
    files = {item.path for item in client.list_artifacts(run_ids[2], "gates")}
    assert {"gates/report.html", "gates/report.png"} <= files
    page = Path(client.download_artifacts(run_ids[2], "gates/report.html", str(tmp_path))).read_text(encoding="utf-8")
    assert page.index("toy version 3: ") < page.index("Why: the gates") < page.index("Since version 1:")
    assert "<td>train</td>" in page and client.get_run(run_ids[2]).data.tags[tags.COMPARED_WITH] == "1"
    same = Path(client.download_artifacts(run_ids[1], "gates/report.html", str(tmp_path))).read_text(encoding="utf-8")
    assert "Version 1 was trained on the same data." in same
