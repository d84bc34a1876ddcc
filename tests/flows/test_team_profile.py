"""The team profile, with nothing replaced: Prefect and MLflow servers on PostgreSQL, files in S3, workers, the command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.flows.prefect_setup import end
from tests.services.team import Team
from tests.toy_task import write_toy

pytestmark = pytest.mark.timeout(900)  # stories of many commands, on a machine that may be busy

PREDICT = """
import mlflow, pandas as pd
from softprompt_core.store.connection import Store
mlflow.set_tracking_uri(Store.connect().addresses.tracking_uri)  # log-in and addresses from the settings
model = mlflow.pyfunc.load_model("models:/{name}@champion")
print(list(model.predict(pd.DataFrame({{"text": ["the of a good", "was in poor it"]}}))["prediction"]))
"""


def run_json(team: Team, profile: str, *arguments: str | Path, code: int = 0) -> Any:
    """What a command says with ``--json``: stdout holds nothing else."""
    done = team.softprompt(profile, *arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def stored(team: Team, bucket: str) -> list[str]:
    pages = team.s3.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def predictions(team: Team, profile: str, name: str) -> str:
    done = team.python(profile, "-c", PREDICT.format(name=name))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@contextmanager
def worker(team: Team, pool: str) -> Iterator[None]:
    """On another machine: in a folder of its own, told of nothing but Prefect's server and log-ins."""
    elsewhere = team.folder / "worker"
    elsewhere.mkdir()
    environment = {**team.environment("team"), "PREFECT_API_URL": team.prefect.url, "PREFECT_HOME": str(elsewhere)}
    for name in ("SOFTPROMPT_CONFIG", "SOFTPROMPT_PROFILE"):
        del environment[name]
    environment["PREFECT_WORKER_QUERY_SECONDS"] = "1"
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool]
    with (elsewhere / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=elsewhere, env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        end(process)


def test_a_task_lives_on_servers_alone(team: Team, taught_base: Path) -> None:
    path = write_toy(team.folder / "specs", taught_base, name="shared")
    (first,) = run_json(team, "team", "run", path)
    assert (first["outcome"], first["version"]) == ("promoted", 1)
    assert first["run_url"].startswith(team.mlflow.url) and first["prefect_url"].startswith(team.prefect.url.removesuffix("/api"))
    (again,) = run_json(team, "team", "run", path)
    assert (again["outcome"], again["version"]) == ("unchanged", 1)

    # Files are in S3 and nowhere else.
    assert [key for key in stored(team, "proxied") if key.endswith("soft_prompt/soft_prompt.safetensors")]
    assert not [found for found in team.folder.rglob("soft_prompt.safetensors") if "work" not in found.parts]
    assert predictions(team, "team", "shared") == "['positive', 'negative']"

    # Another version, trained by a worker that was told of one address.
    write_toy(team.folder / "specs", taught_base, name="shared", prompt={"length": 5})
    environments = team.folder / "deployments" / "environments"
    environments.mkdir(parents=True)
    where = {"SOFTPROMPT_CONFIG": str(team.folder / "softprompt.toml"), "SOFTPROMPT_PROFILE": "team"}
    value = {"work_pool": {"name": "team"}, "specs": ["specs"], "env": where}
    (environments / "team.yaml").write_text(yaml.safe_dump(value))
    changes = run_json(team, "team", "deploy", "--environment", "team")["changes"]
    assert {change["action"] for change in changes} == {"created"}
    with worker(team, "team"):
        (second,) = run_json(team, "team", "run", path, "--deployment", "--wait", "--timeout", "10m")
    assert (second["outcome"], second["version"]) == ("promoted", 2)

    (row,) = [row for row in run_json(team, "team", "registry", "list") if row["task"] == "shared"]
    assert (row["champion"], row["newest"], row["moved_by_hand"]) == (2, 2, None)
    (row,) = [row for row in run_json(team, "team", "status") if row["task"] == "shared"]
    assert (row["champion"], row["last_outcome"]) == (2, "promoted")
    ledger = run_json(team, "team", "registry", "history", "shared")
    assert [(entry["action"], entry["version"], entry["status"]) for entry in ledger] == [
        ("promote", 1, "completed"),
        ("promote", 2, "completed"),
    ]
    compared = run_json(team, "team", "registry", "compare", "shared", "previous", "champion")
    assert compared["spec"] == {"prompt.length": [4, 5]} and compared["tokens"][0]
    assert run_json(team, "team", "gates", "explain", "shared")["same_verdict"] is True
    (watched,) = run_json(team, "team", "monitor", "shared", "--data", team.folder / "specs" / "test.csv", code=31)
    assert watched["health"] == "unknown"  # 32 rows are too few


def test_without_a_tracking_server_files_go_to_s3_from_here(team: Team, taught_base: Path) -> None:
    path = write_toy(team.folder / "direct-specs", taught_base, name="direct")
    (first,) = run_json(team, "direct", "run", path)
    assert first["outcome"] == "promoted"
    assert [key for key in stored(team, "direct") if key.startswith("softprompt/direct/") and key.endswith("safetensors")]
    assert not (team.folder / "direct-home" / "artifacts").exists()
    assert predictions(team, "direct", "direct") == "['positive', 'negative']"
    assert run_json(team, "direct", "gates", "explain", "direct")["same_verdict"] is True


def test_what_was_trained_on_a_laptop_is_promoted_to_the_servers_without_training(team: Team, taught_base: Path) -> None:
    path = write_toy(team.folder / "moved-specs", taught_base, name="moved")
    copy = ("registry", "copy", path, "--from", "laptop", "--by", "ann", "--reason", "release 1")
    (early,) = run_json(team, "team", *copy, code=40)
    assert (early["outcome"], early["version"]) == ("invalid", None) and "profile laptop: moved@champion" in early["reason"]
    (trained,) = run_json(team, "laptop", "run", path)
    (moved,) = run_json(team, "team", *copy)
    assert (moved["outcome"], moved["version"], moved["run_url"][: len(team.mlflow.url)]) == ("promoted", 1, team.mlflow.url)
    (again,) = run_json(team, "team", *copy)
    assert (again["outcome"], again["version"]) == ("unchanged", 1)
    (entry,) = run_json(team, "team", "registry", "history", "moved")
    assert (entry["who"], entry["run_id"]) == ("ann", moved["run_id"]) and moved["run_id"] != trained["run_id"]
    assert predictions(team, "team", "moved") == "['positive', 'negative']"
    # From there to a place without a tracking server, whose files go to S3 from here.
    (onward,) = run_json(team, "direct", "registry", "copy", "moved@1", "--from", "team", "--by", "ben", "--reason", "release 1")
    assert onward["outcome"] == "promoted"
    assert predictions(team, "direct", "moved") == "['positive', 'negative']"
    # Nothing was trained: the same inputs are known there.
    assert run_json(team, "direct", "run", path)[0]["outcome"] == "unchanged"
