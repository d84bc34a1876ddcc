"""The image and the compose file, which nothing here can build or start: linter, schema, and what must agree with other files."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deployments" / "container" / "Dockerfile"
COMPOSE = ROOT / "deployments" / "container" / "compose.yaml"


def tool(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (pip install -e .[dev])")
    return found


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) in order; comments gone, continued lines joined."""
    text = re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE.read_text())
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def arguments(of: str) -> list[str]:
    return [given for instruction, given in instructions() if instruction == of]


def test_the_linter_has_nothing_to_say_and_would_say_it(tmp_path: Path) -> None:
    hadolint = tool("hadolint")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    bad = tmp_path / "Dockerfile"
    bad.write_text(DOCKERFILE.read_text().replace("python:3.11-slim", "python:latest"))
    assert "DL3007" in subprocess.run([hadolint, bad], capture_output=True, text=True, timeout=60).stdout


def test_what_is_copied_is_there_and_is_sent_to_the_builder() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source for given in arguments("COPY") for source in given.split()[:-1]}
    assert copied == sent  # everything else is ignored
    for source in copied:
        assert (ROOT / source).exists(), source
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {pattern.removesuffix("*") for pattern in packages} <= copied


def test_versions_are_the_tested_ones_and_extras_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installs = [part for given in arguments("RUN") for part in given.split("&&") if "pip install" in part]
    assert len(installs) == 3 and all("-c constraints.txt" in part or "--no-deps" in part for part in installs)
    (extras,) = (given.partition("=")[2] for given in arguments("ARG") if given.startswith("EXTRAS="))
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()


def test_the_image_runs_as_the_user_and_in_the_places_that_work_pools_expect() -> None:
    pod = job_template("kubernetes")["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert arguments("USER") == [str(pod["securityContext"]["runAsUser"])] and instructions()[-2][0] == "USER"
    assert f"--uid {arguments('USER')[0]}" in " ".join(arguments("RUN"))
    env = dict(part.split("=", 1) for given in arguments("ENV") for part in given.split())
    for kind in ("docker", "kubernetes"):
        configuration = job_template(kind)["job_configuration"]
        given = configuration["env"] if kind == "docker" else {e["name"]: e["value"] for e in pod["containers"][0]["env"]}
        assert {key: given[key] for key in ("SOFTPROMPT_HOME", "HF_HOME")} == {
            key: env[key] for key in ("SOFTPROMPT_HOME", "HF_HOME")
        }
    assert pod["containers"][0]["volumeMounts"][0]["mountPath"] == arguments("VOLUME")[0]
    assert not arguments("ENTRYPOINT")  # Prefect's workers give whole commands


def job_template(kind: str) -> Any:
    return yaml.safe_load((ROOT / "deployments" / "work_pools" / f"{kind}.yaml").read_text())


def test_the_compose_file_is_legal_and_the_schema_would_notice(tmp_path: Path) -> None:
    check = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    bad = tmp_path / "compose.yaml"
    bad.write_text(COMPOSE.read_text().replace("depends_on:", "dependson:"))
    for file, code in ((COMPOSE, 0), (bad, 1)):
        done = subprocess.run([*check, str(file)], capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stdout + done.stderr


def test_services_reach_each_other_by_name_and_nobody_else_does() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    told = str([(service.get("environment"), service.get("command")) for service in services.values()])
    named = set(re.findall(r"(?:https?://|@)([a-z0-9]+)[:/]", told)) - {"localhost"}
    assert named == {"postgres", "s3", "mlflow", "prefect"} and named <= services.keys()
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert set(service.get("depends_on", {})) <= services.keys()
