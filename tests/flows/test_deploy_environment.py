"""Environment files and plans: what is wrong with them is said before a server is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from flows.deploying.desired import DesiredState, desired_state
from flows.deploying.environment import Environment, load_environment
from softprompt_core.errors import InvalidInput
from tests.toy_task import toy

MINIMAL = "work_pool: {name: here}\n"


def spec(folder: Path, name: str, **changes: object) -> Path:
    """A spec file; its data need not exist to be deployed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(toy("bundled", name=name, **changes)))
    return path


@pytest.mark.parametrize("name", ["dev", "staging", "prod"])
def test_the_environments_of_the_package_can_be_read_from_anywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loaded_name, environment, template = load_environment(name)
    assert (loaded_name, environment.work_pool.name, environment.work_pool.type, template) == (
        name,
        f"softprompt-{name}",
        "process",
        None,
    )


def test_a_file_of_the_current_folder_comes_first_and_may_name_a_job_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "deployments" / "environments"
    folder.mkdir(parents=True)
    (folder / "dev.yaml").write_text("work_pool: {name: mine, base_job_template: pool.json}\nenv: {THREADS: 4}\n")
    (folder / "pool.json").write_text('{"variables": {}}')
    _, environment, template = load_environment("dev")
    assert (environment.work_pool.name, environment.env, template) == ("mine", {"THREADS": "4"}, {"variables": {}})


WRONG = {
    "typing mistake": (MINIMAL + "schedule: false", "unknown key `schedule`; did you mean `schedules`?"),
    "inside the pool": ("work_pool: {name: x, typ: docker}", "unknown key `work_pool.typ`; did you mean `type`?"),
    "no pool": ("tags: [a]", "`work_pool` is missing"),
    "relative folder": (MINIMAL + "working_directory: srv", "`working_directory`: must be an absolute path"),
    "no run at all": ("work_pool: {name: x, concurrency: 0}", "`work_pool.concurrency`"),
    "one name for all": (MINIMAL + "deployment_name: staging", "`deployment_name`: must hold `{task}`"),
    "heartbeats": (MINIMAL + "heartbeat_seconds: 1", "`heartbeat_seconds`"),
    "env twice": (MINIMAL + "job_variables: {env: {A: b}}", "`job_variables`: put environment variables under `env`"),
    "spec": (MINIMAL + "parameters: {spec: x.yaml}", "`parameters`: `spec` is each deployment's own"),
    "a key of before": (MINIMAL + "retrain_when_degraded: true", "`retrain_when_degraded` is gone"),
    "a list": ("- a", "is no mapping"),
    "no YAML": ("work_pool: {", "cannot be read"),
    "a key twice": (MINIMAL + "env: {A: b, A: c}", "odd.yaml:2: cannot be read: `env.A` is written twice, on line 2"),
    "a part twice": (MINIMAL + "schedules: true\nwork_pool: {name: there}", "`work_pool` is written twice, on lines 1 and 3"),
    "an anchor": (MINIMAL + "tags: &x [*x]", "anchors (&) and aliases (*) are not read"),
    "a tag": (MINIMAL + "heartbeat_seconds: !!int x", "tags (!) are not read"),
    "depth": (MINIMAL + "tags: " + "[" * 3000, "nested more than"),
    "a line": (MINIMAL + "schedules: maybe", "odd.yaml:2: `schedules`"),
    "a missing template": ("work_pool: {name: x, base_job_template: none.json}", "none.json: no such file"),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_environment_file_is_told_with_its_place(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        load_environment(str(path))
    assert message in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("pool.json", '{"variables": {"a": 1, "a": 2}}', "an object has the key `a` twice"),
        ("pool.json", "[" * 100_000, "nested too deep"),
        ("pool.yaml", "variables: {}\nvariables: {a: 1}\n", "`variables` is written twice, on lines 1 and 2"),
    ],
)
def test_a_wrong_job_template_is_told_with_its_place(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / "odd.yaml").write_text(f"work_pool: {{name: x, base_job_template: {name}}}\n")
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInput) as caught:
        load_environment(str(tmp_path / "odd.yaml"))
    assert words in str(caught.value) and name in str(caught.value.where)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text("work_pool: {}\nretrain: true\n")
    with pytest.raises(InvalidInput, match=r"(?s)`work_pool.name` is missing.*unknown key `retrain`"):
        load_environment(str(path))


def test_an_unknown_environment_names_the_known_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match="known are dev, prod, staging"):
        load_environment("production")


@pytest.fixture
def desired(tmp_path: Path) -> Callable[..., DesiredState]:
    def read(*targets: str, **keys: object) -> DesiredState:
        environment = Environment.model_validate({"work_pool": {"name": "here"}, **keys})
        paths = [tmp_path / each for each in targets]
        return desired_state("test", environment, paths, root=tmp_path, lifecycle_parameters=["force"])

    return read


def test_a_deployment_holds_what_spec_and_environment_say(tmp_path: Path, desired: Callable[..., DesiredState]) -> None:
    spec(tmp_path / "specs", "weekly", schedule={"cron": "0 3 * * 1", "timezone": "Europe/Berlin"})
    keys = {
        "working_directory": "/srv/tasks",
        "env": {"A": "b"},
        "job_variables": {"image": "x"},
        "parameters": {"force": True},
        "tags": ["night"],
        "deployment_name": "{task}-test",
    }
    (deployment,) = desired("specs", **keys).deployments
    assert (deployment.name, deployment.task, deployment.cron, deployment.timezone) == (
        "weekly-test",
        "weekly",
        "0 3 * * 1",
        "Europe/Berlin",
    )
    assert deployment.parameters == {"force": True, "spec": "specs/weekly.yaml"}  # relative: workers have the folder elsewhere
    assert deployment.pull_steps == [{"prefect.deployments.steps.set_working_directory": {"directory": "/srv/tasks"}}]
    assert deployment.job_variables == {"image": "x", "env": {"A": "b", "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "60"}}
    assert deployment.tags == ("night", "softprompt", "softprompt-environment:test")
    assert desired("specs", **keys, schedules=False).deployments[0].cron is None


def test_a_call_answers_for_what_it_names_and_nothing_else(tmp_path: Path, desired: Callable[..., DesiredState]) -> None:
    spec(tmp_path / "a", "one")
    spec(tmp_path / "b", "two")
    gone = ["a/gone.yaml", "a/one.yaml", "a/deep/x.yaml", "b/two.yaml"]
    covered = {names: [each for each in gone if desired(*names).covers(each)] for names in [("a",), ("a/one.yaml",), ("a", "b")]}
    assert covered[("a",)] == ["a/gone.yaml", "a/one.yaml"]
    assert covered[("a/one.yaml",)] == ["a/one.yaml"]
    assert covered[("a", "b")] == ["a/gone.yaml", "a/one.yaml", "b/two.yaml"]


def test_every_bad_spec_is_told(tmp_path: Path, desired: Callable[..., DesiredState]) -> None:
    spec(tmp_path / "specs", "good")
    for name in ("bad", "worse"):
        (tmp_path / "specs" / f"{name}.yaml").write_text("name: x\ndatta: {}\n")
    with pytest.raises(InvalidInput, match=r"(?s)bad\.yaml.*worse\.yaml"):
        desired("specs")


def test_what_a_worker_could_not_find_or_understand_is_refused(tmp_path: Path, desired: Callable[..., DesiredState]) -> None:
    spec(tmp_path.parent / f"{tmp_path.name}-elsewhere", "far")
    spec(tmp_path / "a", "one")
    spec(tmp_path / "b", "one").rename(tmp_path / "b" / "other.yaml")
    for targets, keys, message in [
        ([f"../{tmp_path.name}-elsewhere"], {}, "outside of the current folder"),
        (["missing"], {}, "no such spec file or folder"),
        (["a", "b"], {}, "the name `one` is taken by"),
        ([], {}, "no specs are named"),
        (["a"], {"parameters": {"forse": True}}, "the lifecycle has no forse; it has force"),
    ]:
        with pytest.raises(InvalidInput, match=message):
            desired(*targets, **keys)
