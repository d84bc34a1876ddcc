"""Data sets in hub layout: local folders stand for the hub, and a closed port for one that is down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import pytest

from softprompt_core.data import prepare
from softprompt_core.errors import InvalidInput
from softprompt_core.spec import parse_spec

NAMES = ["negative", "positive"]


def hub_spec(folder: Path, target: dict[str, Any] | None = None, **source: Any) -> Any:
    data = {"source": {"hub": str(folder), **source}, "input": "{text}", "target": target or {"column": "label"}}
    return parse_spec({"name": "toy", "data": data})


def class_rows(split: str, count: int, hidden: bool = False) -> datasets.Dataset:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=NAMES)})
    rows = {"text": [f"{split} {i}" for i in range(count)], "label": [-1 if hidden else i % 2 for i in range(count)]}
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hub" / "data").mkdir(parents=True)
    for split, count in (("train", 12), ("validation", 4), ("test", 6)):
        class_rows(split, count, hidden=split == "test").to_parquet(str(tmp_path / "hub" / "data" / f"{split}-0.parquet"))
    return tmp_path / "hub"


@pytest.fixture(autouse=True)
def no_home_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(cache))
    return cache


def test_class_label_names_are_the_words_when_the_spec_has_none(folder: Path) -> None:
    data = prepare(hub_spec(folder, splits={"test": "validation"}))
    assert data.labels == ("negative", "positive")
    assert [e.target for e in data.splits["test"]] == ["negative", "positive"] * 2


@pytest.mark.parametrize("labels", [{"0": "bad", "1": "good"}, {"negative": "bad", "positive": "good"}])
def test_a_map_may_speak_of_class_numbers_or_names(folder: Path, labels: dict[str, str]) -> None:
    data = prepare(hub_spec(folder, {"column": "label", "labels": labels}, splits={"test": "validation"}))
    assert [e.target for e in data.splits["test"]] == ["bad", "good"] * 2


def test_a_split_that_serves_under_another_name_is_not_used_twice(folder: Path) -> None:
    data = prepare(hub_spec(folder, splits={"test": "validation"}))
    assert {e.input.split()[0] for e in data.splits["validation"]} == {"train"}
    assert not data.report.leakage


def test_part_of_a_split_may_be_named(folder: Path) -> None:
    data = prepare(hub_spec(folder, splits={"train": "train[:6]", "validation": "train[6:]", "test": "validation"}))
    assert [len(data.splits[s]) for s in ("train", "validation", "test")] == [6, 6, 4]


def test_hidden_test_labels_are_explained(folder: Path) -> None:
    with pytest.raises(InvalidInput, match=r"unknown label '-1'") as caught:
        prepare(hub_spec(folder))
    assert "data.source.splits.test" in str(caught.value.do)


def test_nothing_is_cached_for_a_folder_and_a_changed_file_is_read_anew(folder: Path, no_home_cache: Path) -> None:
    spec = hub_spec(folder, splits={"test": "validation"})
    before = prepare(spec)
    class_rows("changed", 12).to_parquet(str(folder / "data" / "train-0.parquet"))
    assert prepare(spec).fingerprint != before.fingerprint
    assert not no_home_cache.exists()


def test_csv_cells_of_a_data_set_stay_text(tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "data"
    folder.mkdir(parents=True)
    rows = "".join(f"00{i},{'NA' if i % 2 else 'null'}\n" for i in range(9))
    (folder / "train.csv").write_text("text,label\n" + rows)
    data = prepare(hub_spec(folder.parent))
    assert data.labels == ("NA", "null")
    assert all(e.input.startswith("00") for rows in data.splits.values() for e in rows)


def test_jsonl_in_hub_layout_loads(tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "data"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text("".join(json.dumps({"text": f"row {i}", "label": i % 2}) + "\n" for i in range(20)))
    assert prepare(hub_spec(folder.parent)).labels == ("0", "1")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({"splits": {"train": "training"}}, "training"),
        ({"config": "other"}, "other"),
        ({"splits": {"train": "train[:x]"}}, "train"),
    ],
)
def test_an_unknown_split_or_configuration_is_named(folder: Path, source: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        prepare(hub_spec(folder, **source))


def test_a_folder_without_data_or_with_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "code.py").write_text("raise SystemExit('this code was run')")
    for name in ("empty", "code"):
        with pytest.raises(InvalidInput, match="cannot be loaded"):
            prepare(hub_spec(tmp_path / name))


def test_a_data_set_without_a_train_split_lists_the_splits_it_has(folder: Path) -> None:
    (folder / "data" / "train-0.parquet").unlink()
    with pytest.raises(InvalidInput, match="has no split called train") as caught:
        prepare(hub_spec(folder))
    assert "validation, test" in str(caught.value.do)


def test_what_is_neither_folder_nor_id_is_refused_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(InvalidInput, match="neither a folder nor a data set id"):
        prepare(hub_spec(Path("./no/such/folder")))


@pytest.mark.parametrize("environment", [{"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}])
def test_a_hub_that_cannot_be_reached_is_unavailable_within_seconds(tmp_path: Path, environment: dict[str, str]) -> None:
    code = (
        "import datasets, time; from softprompt_core.data import prepare; from softprompt_core.spec import parse_spec\n"
        "from softprompt_core.errors import Unavailable\n"
        "data = {'source': {'hub': 'some/data'}, 'input': '{text}', 'target': {'column': 'label'}}\n"
        "began = time.monotonic()\n"
        "try: prepare(parse_spec({'name': 'toy', 'data': data}))\n"
        "except Unavailable as error: print(error, time.monotonic() - began, sep='\\n')"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, "HF_HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert "some/data: the hub cannot be reached" in result.stdout
    assert "HF_HUB_OFFLINE" in result.stdout
    assert float(result.stdout.splitlines()[-1]) < 15


def test_an_unused_column_of_any_kind_does_no_harm(tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "data"
    folder.mkdir(parents=True)
    rows = class_rows("train", 20).add_column("extra", [{"deep": [i]} for i in range(20)])
    rows.to_parquet(str(folder / "train.parquet"))
    assert len(prepare(hub_spec(folder.parent)).splits["train"]) == 14
