"""The ready workflows: they parse, and the command line accepts every command in them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from flows.cli.app import app

FOLDER = Path(__file__).parents[2] / "deployments" / "ci"
FILES = sorted(FOLDER.glob("*.yaml"))


def steps(file: Path) -> list[dict[str, Any]]:
    workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert workflow[True] and workflow["permissions"] == {"contents": "read"}  # YAML reads the key `on` as true
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def commands(file: Path) -> list[list[str]]:
    lines = [line for step in steps(file) for line in step.get("run", "").replace("\\\n", " ").splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [each[each.index("softprompt") + 1 :] for each in words if "softprompt" in each]


def accept(arguments: list[str]) -> dict[str, Any]:
    """Parse a command line without running it; raises a usage error for what the parser refuses."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        while arguments[0] in {option for parameter in command.params for option in parameter.opts}:
            arguments = arguments[2:]  # those that stand before the command all have a value
        name, *arguments = arguments
        command = command.commands[name]
    return command.make_context("softprompt", list(arguments)).params


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_command_of_a_workflow_is_accepted(file: Path) -> None:
    found = commands(file)
    assert found
    for arguments in found:
        assert accept(arguments)["github_summary" if arguments[0] != "check" else "base"] is True


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_action_is_pinned_to_a_release(file: Path) -> None:
    used = [step["uses"] for step in steps(file) if "uses" in step]
    assert used and all("@v" in name for name in used)


def test_a_command_that_does_not_exist_is_noticed() -> None:
    with pytest.raises(Exception, match="No such option"):
        accept(["run", "specs/a.yaml", "--deploymnet"])
    with pytest.raises(KeyError):
        accept(["runn", "specs/a.yaml"])


def test_the_hook_of_pre_commit_is_a_command_that_takes_files() -> None:
    (hook,) = yaml.safe_load((FOLDER.parents[1] / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    program, *arguments = shlex.split(hook["entry"])
    assert program == "softprompt" and accept([*arguments, "specs/a.yaml", "specs/b.yaml"])["specs"]


def test_there_are_workflows_for_pull_request_merge_and_tag() -> None:
    assert {file.name for file in FILES} >= {"pull-request.yaml", "merge.yaml", "tag.yaml"}
    checking, trying = commands(FOLDER / "pull-request.yaml")
    assert checking[0] == "check" and accept(trying)["dry_run"] is True
    waiting = accept(commands(FOLDER / "merge.yaml")[0])
    assert waiting["deployment"] and waiting["wait"] and waiting["timeout"] == "2h" and waiting["cancel_on_interrupt"]
    (copying,) = commands(FOLDER / "tag.yaml")
    assert copying[:4] == ["--profile", "prod", "registry", "copy"] and accept(copying)["source"] == "staging"
