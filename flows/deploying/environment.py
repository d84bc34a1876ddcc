"""What differs between dev, staging and prod: one YAML file an environment, checked before anything is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from softprompt_core.errors import InvalidInput, closest
from softprompt_core.json_files import parse_json
from softprompt_core.spec.frozen import Frozen
from softprompt_core.spec.loading import MAX_PROBLEMS
from softprompt_core.spec.yaml_text import MAX_CHARACTERS, Document, read_yaml
from softprompt_core.text_files import read_text

FOLDER = Path("deployments") / "environments"
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"


class WorkPool(Frozen):
    """The Prefect work pool whose workers run the lifecycles."""

    name: str = Field(pattern=_NAME)
    """Workers are started with `prefect worker start --pool NAME`."""
    type: str = Field("process", min_length=1)
    """`process`, or the type of another worker that is installed: `docker`, `kubernetes`, …"""
    concurrency: int | None = Field(None, ge=1)
    """Runs of the whole pool at one time; null: as many as its workers take."""
    base_job_template: str | None = None
    """JSON or YAML file with the pool's job template, from the environment file's folder; null: Prefect's own for the type."""


class Environment(Frozen):
    """Where and how the tasks of one environment run."""

    model_config = ConfigDict(coerce_numbers_to_str=True)  # `env: {OMP_NUM_THREADS: 4}` means the text "4"

    work_pool: WorkPool
    """Made when it is missing."""
    specs: tuple[str, ...] = ()
    """Folders of specs, from the current folder, that are deployed when the command names none. They are then the whole
    environment: what is not in them is removed."""
    working_directory: str | None = None
    """Absolute path on the workers' machine of the folder in which `softprompt deploy` runs here. Null: the same path as here."""
    env: dict[str, str] = Field(default_factory=dict)
    """Environment variables of the runs. `{{ prefect.variables.x }}` and `{{ prefect.blocks.secret.x }}` are filled in on the
    worker."""
    job_variables: dict[str, Any] = Field(default_factory=dict)
    """Other variables of the pool's job template: image, memory, …"""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the lifecycle other than `spec`, for every scheduled run."""
    tags: tuple[str, ...] = ()
    """Added to the deployments, and so to their runs."""
    schedules: bool = True
    """false: specs keep their `schedule`, but here nothing starts by itself."""
    deployment_name: str = "{task}"
    """Only needed where environments share a server, for instance `{task}-staging`."""
    heartbeat_seconds: int = Field(60, ge=30, le=3600)
    """How often a run says that it is alive. After three missed times it counts as crashed."""

    @field_validator("deployment_name")
    @classmethod
    def _names_the_task(cls, value: str) -> str:
        if "{task}" not in value or any(sign in value.replace("{task}", "") for sign in "{}/%"):
            raise ValueError("must hold `{task}` and otherwise plain text")
        return value

    @field_validator("working_directory")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if value is not None and not PurePosixPath(value).is_absolute():
            raise ValueError("must be an absolute path on the workers' machine")
        return value

    @field_validator("job_variables")
    @classmethod
    def _env_has_its_place(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "env" in value:
            raise ValueError("put environment variables under `env`")
        return value

    @field_validator("parameters")
    @classmethod
    def _spec_is_given(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "spec" in value:
            raise ValueError("`spec` is each deployment's own")
        return value


def load_environment(name_or_path: str) -> tuple[str, Environment, dict[str, Any] | None]:
    """Read an environment file.

    Args:
        name_or_path: a file in ``deployments/environments`` of the current folder, else of this package, by its name; or a path.

    Returns:
        The environment's name (the file's), its settings, and the job template it names, if it names one.

    Raises:
        InvalidInput: no such file, or it breaks the model; every problem is listed.
    """
    path = _find(name_or_path)
    value, lines = _read(path, "an environment is a YAML mapping with `work_pool`, …")
    try:
        environment = Environment.model_validate(value)
    except ValidationError as error:
        (line, problem), *others = [(_line(each["loc"], lines), _explain(each)) for each in error.errors()[:MAX_PROBLEMS]]
        problems = "\n".join([problem, *(f"{path}{other_line}: {other}" for other_line, other in others)])
        raise InvalidInput(problems, where=f"{path}{line}", do="every key is described in docs/deploying.md") from None
    template = environment.work_pool.base_job_template
    if template is None:
        return path.stem, environment, None
    job_template, _ = _read(path.parent / template, "a job template has `variables` and `job_configuration`")
    return path.stem, environment, job_template


def _find(name_or_path: str) -> Path:
    if name_or_path.endswith((".yaml", ".yml")):
        return Path(name_or_path).expanduser()
    folders = [FOLDER, Path(str(files("deployments"))) / "environments"]  # read as data: flows import nothing from deployments
    for folder in folders:
        if (path := folder / f"{name_or_path}.yaml").is_file():
            return path
    known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    raise InvalidInput(
        f"no such environment; known are {', '.join(known)}",
        where=f"--environment {name_or_path}",
        do=f"write {FOLDER / name_or_path}.yaml, or name a YAML file",
    )


def _read(path: Path, hint: str) -> tuple[dict[str, Any], Mapping[tuple[str, ...], int]]:
    """A file's mapping, and for YAML the line of each key path."""
    text = read_text(path, "file", max_bytes=4 * MAX_CHARACTERS)
    try:
        document = Document(parse_json(text)) if path.suffix == ".json" else read_yaml(text, str(path))
    except InvalidInput as error:
        raise InvalidInput(f"cannot be read: {error.what}", where=error.where, do=error.do) from None
    except ValueError as error:
        raise InvalidInput(f"cannot be read: {' '.join(str(error).split())}", where=str(path), do=hint) from None
    if not isinstance(document.value, dict):
        raise InvalidInput("is no mapping", where=str(path), do=hint)
    return document.value, document.lines


def _line(key_path: Sequence[Any], lines: Mapping[tuple[str, ...], int]) -> str:
    """``:3`` for the line of the key, or of what it should stand in; empty where none is known."""
    path = tuple(map(str, key_path))
    while path and path not in lines:
        path = path[:-1]
    return f":{lines[path]}" if path else ""


def _explain(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if key == "retrain_when_degraded":
        return f"`{key}` is gone: a run on unchanged data trains nothing; remove the line (docs/monitoring.md)"
    if error["type"] == "extra_forbidden":
        model: type[BaseModel] = WorkPool if error["loc"][0] == "work_pool" else Environment
        close = closest(str(error["loc"][-1]), model.model_fields)
        return f"unknown key `{key}`; " + (f"did you mean `{close}`?" if close else f"known: {', '.join(model.model_fields)}")
    if error["type"] == "missing":
        return f"`{key}` is missing"
    return f"`{key}`: {error['msg'].removeprefix('Value error, ')}"
