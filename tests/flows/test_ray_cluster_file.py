"""The Ray cluster file: what Ray's launcher would say to it, without machines to launch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from softprompt_core import settings

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray` is not installed")
FILE = Path(__file__).parents[2] / "deployments" / "ray" / "cluster.yaml"


def cluster_file() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return content


def test_ray_accepts_the_cluster_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(cluster_file())
    validate_config(config)
    assert config["max_workers"] == len(cluster_file()["provider"]["worker_ips"])
    with pytest.raises(Exception, match="imag"):  # so the schema does look
        validate_config({**config, "docker": {"imag": "softprompt-lifecycle"}})


def test_every_machine_has_the_shared_storage_and_the_driver_knows_its_settings() -> None:
    docker = cluster_file()["docker"]
    variables = dict(
        line.removeprefix("--env ").split("=", 1)
        for line in docker["run_options"] + docker["head_run_options"]
        if "--env" in line
    )
    (volume,) = [line.removeprefix("--volume ") for line in docker["run_options"] if line.startswith("--volume")]
    assert variables["SOFTPROMPT_HOME"].startswith(volume.partition(":")[2] + "/")
    known = {settings.variable(name) for name in settings.Settings.model_fields}
    assert {name for name in variables if not name.startswith(("HF_", "RAY_AUTH_"))} <= known
