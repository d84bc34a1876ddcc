"""``softprompt check``: what is wrong with a spec is told before anything runs, and nothing is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.flows.loaded_modules import ROOT, loaded_by
from tests.toy_task import write_toy

Run = Callable[..., tuple[int, str, str]]
DEMO = ROOT / "deployments" / "demo"
HEAVY = {"torch", "transformers", "datasets", "sklearn", "matplotlib", "prefect", "mlflow"}


def test_demo_specs_are_valid_and_nothing_heavy_is_imported_or_written(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    loaded, code, out = loaded_by("check", DEMO, "--json", among=HEAVY, current_folder=tmp_path, SOFTPROMPT_HOME=home)
    assert (loaded, code) == ([], 0)
    checked = json.loads(out)
    assert [(each["task"], each["outcome"], each["exit_code"]) for each in checked] == [
        (f"demo-{name}", "valid", 0) for name in ("questions", "reviews", "tickets")
    ]
    assert all(each["data"]["splits"]["train"]["rows"] > 100 and not each["base_was_loaded"] for each in checked)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        (
            {"data": {"source": {"files": {"train": "gone.csv"}}, "input": "{text}", "target": {"column": "label"}}},
            40,
            "no such file",
        ),
        ({"data": {"source": {"files": {"train": "train.csv"}}, "input": "{txt}", "target": {"column": "label"}}}, 40, "`txt`"),
        ({"gates": [{"metric": "acuracy", "at_least": 0.5}]}, 40, "did you mean `accuracy`"),
        ({"schedule": {"cron": "99 99 * * *"}}, 40, "99 99"),
        ({"base_model": {"id": "/nowhere/at/all"}}, 40, "no such folder"),
    ],
)
def test_a_mistake_is_told_with_its_place(
    tmp_path: Path, taught_base: Path, here: Run, changes: dict[str, object], code: int, words: str
) -> None:
    good = write_toy(tmp_path / "good", taught_base)
    wrong = write_toy(tmp_path / "wrong", taught_base, name="wrong", **changes)
    ended, out, _ = here("check", wrong, good)
    assert ended == code and words in out.replace("\n", " "), out
    assert out.index("✗") < out.index("✓") and "1 of 2 valid" in out


def test_two_specs_with_one_name_are_told(tmp_path: Path, taught_base: Path, here: Run) -> None:
    first, second = (write_toy(tmp_path / folder, taught_base) for folder in ("a", "b"))
    code, out, _ = here("check", first, second)
    assert code == 40 and f"the name `toy` is taken by {first}" in out


def test_only_the_base_tells_whether_a_prompt_fits_it(tmp_path: Path, taught_base: Path, here: Run) -> None:
    spec = write_toy(tmp_path, taught_base, prompt={"length": 600})
    assert here("check", spec)[0] == 0
    code, out, _ = here("check", spec, "--base")
    assert code == 40 and "prompt.length" in out
    fits = write_toy(tmp_path, taught_base, schedule={"cron": "0 3 * * 1"})
    code, out, err = here("check", fits, "--base", "--json")
    (checked,) = json.loads(out)
    assert (code, err) == (0, "") and checked["base_was_loaded"]
    assert checked["data"]["splits"]["train"]["tokens"]["longest"] > 0 and "T03:00:00" in checked["next_run"]
    assert not (tmp_path / "softprompt-home").exists()


def test_the_page_shows_the_data_and_escapes_it(tmp_path: Path, taught_base: Path, here: Run) -> None:
    spec = write_toy(tmp_path, taught_base)
    with (tmp_path / "train.csv").open("a", encoding="utf-8") as file:
        file.write("<script>alert(1)</script>,positive\n<script>alert(1)</script>,negative\n")
    broken = write_toy(tmp_path / "b", taught_base, name="broken", base_model={"id": "/no/<b>such</b>/folder"})
    page = tmp_path / "page.html"
    code, out, err = here("check", spec, broken, "--html", page)
    text = page.read_text(encoding="utf-8")
    assert code == 40 and "<script>" not in text and "<b>such" not in text
    for words in (
        "toy: valid",
        "broken: invalid",
        "Balance",
        "Words an input",
        "Repeated inputs with different targets (1)",
        "film",
    ):
        assert words in text, words
    assert "train more than once with different targets" in out and "--base" in err
    assert here("check", spec, "--html", tmp_path / "no" / "folder.html")[0] == 40
