"""The command line: exit codes, the last line, JSON; and bad input leaves the stores as they were."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from softprompt_core.base_model import BaseIdentity
from softprompt_core.soft_prompt import SoftPrompt
from tests.toy_task import write_toy

ROOT = Path(__file__).parents[2]
SHORT = {"max_steps": 4, "eval_every": 2, "batch_size": 16}
NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing listens there


def softprompt(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def content(home: Path) -> list[str]:
    """Everything in the MLflow database."""
    with sqlite3.connect(home / "mlflow.db") as database:
        return list(database.iterdump())


HELP = [
    "--help",
    "run --help",
    "config show --help",
    "deploy --help",
    "registry --help",
    "gates explain --help",
    "monitor --help",
    "registry compare --help",
    "sweep --help",
]


@pytest.mark.parametrize("command", [*HELP, "schema", "--version"])
def test_help_and_schema_load_nothing_heavy(command: str) -> None:
    code = f"""
import sys
sys.argv = ["softprompt", *{command.split()!r}]
from flows.cli import main
try:
    main()
except SystemExit as ended:
    heavy = {{"torch", "transformers", "mlflow", "prefect", "pandas", "datasets"}}
    print(sorted(heavy & set(sys.modules)), ended.code, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1] == "[] 0" and done.stdout.strip()


def test_an_invalid_spec_is_told_with_its_place_and_exits_40(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text("name: toy\ndatta: {}\n")
    home = tmp_path / "home"
    done = softprompt("run", path, SOFTPROMPT_HOME=str(home))
    assert done.returncode == 40
    assert done.stdout.splitlines()[-1] == "invalid"
    assert f"{path}:2: unknown key `datta`; did you mean `data`?" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert not home.exists()


def test_json_is_all_that_stands_on_stdout(tmp_path: Path, here: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = here("run", tmp_path / "no.yaml", "--json")
    (result,) = json.loads(out)
    assert (code, result["outcome"], result["exit_code"], result["task"]) == (40, "invalid", 40, "no")
    assert "no such spec file" in result["reason"]


def test_a_folder_without_specs_exits_40(tmp_path: Path, here: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = here("fleet", tmp_path)
    assert code == 40 and f"{tmp_path}: holds no spec files" in out + err


def test_mlflow_that_cannot_be_reached_is_told_at_once(tmp_path: Path) -> None:
    path, home = write_toy(tmp_path / "toy", "bundled"), tmp_path / "home"
    began = time.monotonic()
    done = softprompt("run", path, SOFTPROMPT_HOME=str(home), MLFLOW_TRACKING_URI=NOWHERE)
    # The address is given up within ten seconds; the rest is room for a slow machine to import MLflow.
    assert time.monotonic() - began < 45
    assert (done.returncode, done.stdout.splitlines()[-1]) == (50, "unavailable")
    assert f"MLflow at {NOWHERE}" in done.stdout and "Traceback" not in done.stdout + done.stderr
    assert [file for file in home.rglob("*") if file.is_file()] == []


def test_a_prefect_server_that_cannot_be_reached_is_told_at_once(tmp_path: Path) -> None:
    path, home = write_toy(tmp_path / "toy", "bundled"), tmp_path / "home"
    done = softprompt("run", path, SOFTPROMPT_HOME=str(home), PREFECT_API_URL=f"{NOWHERE}/api")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (50, "unavailable")
    assert f"PREFECT_API_URL {NOWHERE}/api" in done.stdout and "Traceback" not in done.stdout + done.stderr
    assert [file for file in home.rglob("*") if file.is_file()] == []


def test_a_whole_run_ends_with_its_outcome_and_the_registry_commands_show_it(
    empty_home: Path, taught_base: Path, tmp_path: Path, here: Callable[..., tuple[int, str, str]]
) -> None:
    path = write_toy(tmp_path / "toy", taught_base, training=SHORT, gates=[{"metric": "accuracy", "at_least": 1.01}])
    done = softprompt("run", path)
    assert done.returncode == 20, done.stderr
    assert done.stdout.splitlines()[-1] == "rejected"
    assert "✗ accuracy at least 1.01" in done.stdout and "Traceback" not in done.stderr

    (listed,) = json.loads(here("registry", "list", "--json")[1])
    assert (listed["task"], listed["champion"], listed["newest"], listed["newest_outcome"]) == ("toy", None, 1, "rejected")
    shown = json.loads(here("registry", "show", "toy", "--json")[1])
    assert (shown["version"], shown["aliases"]) == (1, ["challenger"]) and shown["size_bytes"] < 200_000
    (decided,) = json.loads(here("registry", "history", "toy", "--json")[1])
    assert (decided["action"], decided["version"], decided["run_id"]) == ("reject", 1, shown["run_id"])
    for command, words in ((["list"], "rejected"), (["show", "toy"], "challenger"), (["history", "toy"], "reject")):
        code, out, _ = here("registry", *command)
        assert code == 0 and words in out


def test_an_empty_record_has_nothing_to_list(empty_home: Path, here: Callable[..., tuple[int, str, str]]) -> None:
    assert here("registry", "list")[:2] == (0, "Nothing is registered yet; `softprompt run SPEC` registers a first version.\n")
    assert here("registry", "list", "--json")[:2] == (0, "[]\n")


@pytest.mark.parametrize("command", ["show", "history"])
@pytest.mark.parametrize("name", ["nobody", "a/b", "it's"])
def test_an_unknown_task_exits_40_and_is_named(
    empty_home: Path, here: Callable[..., tuple[int, str, str]], command: str, name: str
) -> None:
    before = content(empty_home)
    code, out, err = here("registry", command, name)
    assert (code, out) == (40, "")
    assert err.startswith(f"invalid: {name}: no version is registered under this name")
    assert content(empty_home) == before


def test_doctor_finds_a_healthy_machine_healthy(empty_home: Path) -> None:
    done = softprompt("doctor")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "ok"), done.stdout + done.stderr
    for what in ("versions", "disk", "mlflow", "prefect", "bundled base"):
        assert what in done.stdout


def test_doctor_says_which_part_is_sick_and_still_looks_at_the_others(empty_home: Path) -> None:
    done = softprompt("doctor", "--json", MLFLOW_TRACKING_URI=NOWHERE)
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 50
    assert findings["mlflow"]["status"] == "problem" and findings["mlflow"]["do"]
    assert findings["mlflow"]["found"] == "cannot be used: connection refused"
    assert findings["bundled base"]["status"] == findings["versions"]["status"] == "ok"


# Eight ways to be wrong. Each takes the folder of a right task and its base, damages it, and returns the spec to run.
def _misspelt_key(folder: Path, base: Path) -> Path:
    return write_toy(folder, base, trainign=SHORT)


def _missing_file(folder: Path, base: Path) -> Path:
    path = write_toy(folder, base)
    (folder / "train.csv").unlink()
    return path


def _without_the_column(folder: Path, base: Path) -> Path:
    path = write_toy(folder, base)
    data = folder / "train.csv"
    data.write_text(data.read_text().replace("text,label", "txt,label", 1))
    return path


def _label_outside_the_map(folder: Path, base: Path) -> Path:
    data: dict[str, Any] = {
        "source": {"files": {"train": "train.csv", "test": "test.csv"}},
        "input": "{text}",
        "target": {"column": "label", "labels": {"positive": "good", "neutral": "so"}},
    }
    return write_toy(folder, base, data=data)


def _empty_test_split(folder: Path, base: Path) -> Path:
    path = write_toy(folder, base)
    (folder / "test.csv").write_text("text,label\n")
    return path


def _base_without_weights(folder: Path, base: Path) -> Path:
    copy = Path(shutil.copytree(base, folder / "base"))
    (copy / "model.safetensors").unlink()
    return write_toy(folder, copy)


def _prompt_longer_than_the_context(folder: Path, base: Path) -> Path:
    return write_toy(folder, base, prompt={"length": 125})


def _prompt_of_another_base(folder: Path, base: Path) -> Path:
    path = write_toy(folder, base, prompt={"length": 4, "init": "file", "file": "start.safetensors"})
    other = BaseIdentity(id="other", revision=None, fingerprint="f" * 64, hidden_size=32)
    SoftPrompt(torch.zeros(4, 32), "suffix", other, "toy").save(folder / "start.safetensors")
    return path


@pytest.mark.parametrize(
    "make, words",
    [
        (_misspelt_key, r"toy\.yaml:\d+: unknown key `trainign`; did you mean `training`\?"),
        (_missing_file, r"train\.csv: no such file"),
        (_without_the_column, r"train\.csv: has no column `text`; its columns: txt, label\n  → did you mean `txt`\?"),
        (_label_outside_the_map, "unknown label 'negative'"),
        (_empty_test_split, r"the test split is empty: no rows in .*test\.csv"),
        (_base_without_weights, r"base_model\.id: .*base: the folder holds no \.safetensors weights"),
        (_prompt_longer_than_the_context, r"prompt\.length: a prompt of 125 vectors does not fit"),
        (_prompt_of_another_base, r"trained on other \(ffffffff\), not on taught"),
    ],
)
def test_bad_input_is_told_in_words_and_leaves_the_record_as_it_was(
    prefect_server: None, empty_home: Path, taught_base: Path, tmp_path: Path, make: Callable[[Path, Path], Path], words: str
) -> None:
    from flows.final_states import result_of
    from flows.lifecycle import lifecycle

    path = make(tmp_path / "toy", taught_base)
    before = content(empty_home)
    result = result_of(lifecycle(str(path), return_state=True))
    assert result.outcome.value == "invalid" and result.outcome.exit_code == 40
    assert re.search(words, result.reason)
    assert content(empty_home) == before
    assert not (empty_home / "artifacts").exists()
