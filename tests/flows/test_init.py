"""``softprompt init``: from a data file to a spec that ``check`` accepts."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from softprompt_core.spec import load_spec
from tests.toy_task import rows, write_rows

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(path: Path, columns: dict[str, list[str]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


TEXTS = [f"this is a text about number {n}" for n in range(60)]


def test_labels_that_are_words_become_a_task_that_is_valid(tmp_path: Path, here: Run) -> None:
    write_rows(tmp_path / "film reviews.csv", rows(120, seed=1))
    code, out, _ = here("init", "film reviews.csv")
    assert code == 0 and "Written: film-reviews.yaml" in out
    spec = load_spec(tmp_path / "film-reviews.yaml")
    assert (spec.name, spec.data.input, spec.data.target.column) == ("film-reviews", "{text}", "label")
    assert spec.data.target.labels is None and spec.is_classification and spec.base_model.id == "bundled"
    assert [gate.versus for gate in spec.gates] == ["majority", "hard_prompt", "champion"]
    assert spec.gates[0].metric == "accuracy"
    before = (tmp_path / "film-reviews.yaml").read_bytes()
    code, _, err = here("init", "film reviews.csv")
    assert code == 40 and "is there already" in err and (tmp_path / "film-reviews.yaml").read_bytes() == before


def test_a_folder_with_splits_numbers_as_labels_and_several_texts(tmp_path: Path, here: Run) -> None:
    labels = [str(int(n % 7 == 0)) for n in range(60)]
    for split in ("train", "dev", "test"):
        others = [f"{split}: {text}" for text in TEXTS]
        write(tmp_path / "pairs" / f"{split}.csv", {"id": TEXTS, "first": TEXTS, "second": others, "Label": labels})
    assert here("init", "pairs", "--name", "same", "-o", "specs.yaml")[0] == 0
    spec = load_spec(tmp_path / "specs.yaml")
    assert spec.data.input == "first: {first}\nsecond: {second}"
    assert spec.data.target.labels == {"0": "class 0", "1": "class 1"}
    assert spec.data.source.files is not None and spec.data.source.files.validation is not None
    assert spec.gates[0].metric == "macro_f1", "one class is six times as frequent"


def test_long_texts_make_a_task_of_writing(tmp_path: Path, here: Run) -> None:
    write(tmp_path / "news.csv", {"article": TEXTS, "summary": [text.upper() for text in TEXTS]})
    assert here("init", "news.csv")[0] == 0
    spec = load_spec(tmp_path / "news.yaml")
    assert spec.data.target.template == "{summary}" and not spec.is_classification
    assert spec.gates[0].metric == "rougeL" and spec.evaluation.max_new_tokens == 14


def test_it_asks_only_where_the_data_do_not_tell(tmp_path: Path, here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"colour": ["red", "blue"] * 30, "size": ["small", "large", "huge"] * 20}
    write(tmp_path / "d.csv", {"words": TEXTS, **kinds})
    code, _, err = here("init", "d.csv")
    assert code == 40 and "`colour`, `size`" in err and not (tmp_path / "d.yaml").exists()
    assert here("init", "d.csv", "--yes", "-o", "yes.yaml")[0] == 0
    assert load_spec(tmp_path / "yes.yaml").data.target.column == "colour"

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("size\n"))
    code, _, err = here("init", "d.csv", "-o", "asked.yaml")
    assert code == 0 and "Which holds the answer?" in err
    assert load_spec(tmp_path / "asked.yaml").data.target.column == "size"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone.csv"], "no such file"),
        (["data.txt"], "is no kind of data file"),
        (["empty"], "the folder has no training rows"),
        (["one.csv", "--target", "lable"], "did you mean `label`"),
        (["one.csv", "--input", "{tex}"], "did you mean `text`"),
        (["one.csv", "--input", "{text"], "cannot read the template"),
        (["one.csv", "-o", "no/folder.yaml"], "cannot be written"),
        (["header.csv"], "has no rows"),
    ],
)
def test_mistakes_are_told_and_leave_nothing(tmp_path: Path, here: Run, arguments: list[str], words: str) -> None:
    (tmp_path / "data.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "header.csv").write_text("text,label\n")
    write_rows(tmp_path / "one.csv", rows(40, seed=1))
    code, _, err = here("init", *arguments)
    assert code == 40 and words in err, err
    assert not list(tmp_path.glob("**/*.yaml"))


def test_odd_names_and_cells_are_read_back_as_they_are(tmp_path: Path, here: Run) -> None:
    labels = ["yes: no", 'a "b"', "null", "#x"] * 15
    write(tmp_path / "odd.csv", {"my text.de": TEXTS, "a{b}": TEXTS, "": TEXTS, "class": labels})
    code, out, _ = here("init", "odd.csv", "--name", "on", "--json", "-o", "odd one.yaml")
    assert code == 0 and json.loads(out)["outcome"] == "valid"
    spec = load_spec(tmp_path / "odd one.yaml")
    assert (spec.name, spec.data.input) == ("on", "{my text.de}")
    assert set(json.loads(out)["data"]["splits"]["train"]["classes"]) == set(labels)
