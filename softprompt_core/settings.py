"""What differs from machine to machine: addresses, folders, budgets.

One object, from weakest to strongest: a default, the top of ``softprompt.toml``, the chosen profile's table in it, an environment
variable, the command line. A change of any of these counts from the next call on.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self, get_args

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, InitSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from softprompt_core.errors import InvalidInput, Outcome

FILE = "softprompt.toml"
_DO = "`softprompt config show` lists every setting; docs/settings.md explains them"
_OWN = "SOFTPROMPT_"  # what libraries know under a name of their own keeps that name, and has no prefix

FROM_PREFIX = f"{_OWN}FROM_"
"""Begins variables that are meant for another profile (``softprompt_core.profiles``)."""

_command_line: dict[str, Any] = {}


def _named(variable: str, default: Any = None) -> Any:
    """A setting that a library reads from the environment itself."""
    return Field(default, validation_alias=variable.lower())


class Settings(BaseSettings):
    """Where things are, and how much may be used."""

    model_config = SettingsConfigDict(
        env_prefix=_OWN,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    config: Path | None = None
    """The settings file; default: `softprompt.toml` in the current folder, if there is one."""
    profile: str = "solo"
    """`solo`: everything in one folder; `team`: servers; or any other table under `[profiles]` of the file."""
    home: Path = Path(".softprompt")
    """The project's own folder: stores without a server, work, locks."""
    mlflow_tracking_uri: str | None = _named("MLFLOW_TRACKING_URI")
    """MLflow's server or database; default: a SQLite file in `home`."""
    mlflow_registry_uri: str | None = _named("MLFLOW_REGISTRY_URI")
    """Where registered models are, if elsewhere."""
    mlflow_tracking_username: str | None = _named("MLFLOW_TRACKING_USERNAME")
    """Log-in to MLflow's server."""
    mlflow_tracking_password: SecretStr | None = _named("MLFLOW_TRACKING_PASSWORD")
    """Its password."""
    mlflow_tracking_token: SecretStr | None = _named("MLFLOW_TRACKING_TOKEN")
    """Or a token in place of both."""
    artifact_root: str | None = None
    """URI under which files of new experiments go, for instance `s3://bucket/softprompt`; default: a folder in `home`,
    or what the MLflow server says."""
    mlflow_s3_endpoint_url: str | None = _named("MLFLOW_S3_ENDPOINT_URL")
    """Address of S3-compatible storage that is not Amazon's."""
    aws_access_key_id: SecretStr | None = _named("AWS_ACCESS_KEY_ID")
    """Key of that storage, where this machine reaches it directly."""
    aws_secret_access_key: SecretStr | None = _named("AWS_SECRET_ACCESS_KEY")
    """Its secret."""
    server_wait_s: float = Field(120.0, ge=0)
    """Seconds that a lifecycle waits, each time, for MLflow or Prefect when they have stopped answering."""
    prefect_api_url: str | None = _named("PREFECT_API_URL")
    """Prefect's server, ending in `/api`; default: one of its own for each command."""
    prefect_api_key: SecretStr | None = _named("PREFECT_API_KEY")
    """Key of Prefect Cloud."""
    prefect_api_auth_string: SecretStr | None = _named("PREFECT_API_AUTH_STRING")
    """`user:password` of a self-hosted Prefect server."""
    base_model: str | None = None
    """Folder of the base on this machine, where versions are served and their spec names another place."""
    cache_bytes: int = Field(2_500_000_000, ge=0)
    """Bytes for keys and values of frozen inputs, for each list of inputs; 0 keeps nothing."""
    cache_dir: Path | None = None
    """Folder for them; default: in memory."""
    ray_address: str | None = _named("RAY_ADDRESS")
    """Ray cluster for work that is spread out: `auto` (one that runs on this machine), `host:port`, or `ray://host:port`;
    default: one of its own for each command, on this machine."""
    ray_cpus_per_task: int = Field(1, ge=1)
    """Cores of a worker of the cluster, and threads of its arithmetic."""
    ray_gpus_per_task: float | None = Field(None, ge=0)
    """GPUs of a worker; a share such as 0.5 lets workers share one. Default: 1 where the cluster has any, else 0."""
    ray_workers: int | None = Field(None, ge=1)
    """Workers at one time, at most; default: as many as the cluster has room for when the work begins."""
    ui_url: str = "http://127.0.0.1:5000"
    """Where the MLflow pages of a record without a server are served; links begin with it."""
    notify_block: str | None = None
    """Prefect block that messages go through, as `type/name`, for instance `slack-webhook/team`."""
    notify_on: Annotated[tuple[Outcome, ...], NoDecode] = (
        Outcome.REJECTED,
        Outcome.DIVERGED,
        Outcome.INVALID,
        Outcome.UNAVAILABLE,
        Outcome.AWAITING_APPROVAL,
    )
    """Outcomes that are worth a message."""

    @field_validator("notify_on", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value

    @field_validator("notify_block")
    @classmethod
    def _type_and_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[^/\s]+/[^/\s]+", value):
            raise ValueError("a block is named by type and name, for instance slack-webhook/team")
        return value

    @model_validator(mode="after")
    def _team_has_addresses(self) -> Self:
        if self.profile != "team":
            return self
        missing = [name for name in ("mlflow_tracking_uri", "prefect_api_url") if getattr(self, name) is None]
        if self.mlflow_tracking_uri and not self.mlflow_tracking_uri.startswith("http") and self.artifact_root is None:
            missing.append("artifact_root")  # a database keeps no files, and other machines cannot see this one's folder
        if missing:
            raise ValueError(f"the profile `team` needs {', '.join(missing)}")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        given, environment = init_settings(), env_settings()
        tables = _file_tables({**environment, **given})
        return init_settings, env_settings, *(InitSettingsSource(settings_cls, dict(table)) for _, table in tables)


@dataclass(frozen=True)
class Setting:
    """One setting as it is now.

    ``value`` is fit to be shown; ``source`` is ``default``, ``file``, ``environment`` or ``command line``.
    """

    name: str
    variable: str
    value: str | None
    source: str
    place: str | None
    """The file, the table in it, the variable or the option that the value stands in."""


def current() -> Settings:
    """The settings as they are now.

    Raises:
        InvalidInput: a setting that is unknown or has an impossible value; names the file, variable or option.
    """
    # Links and folders ask hundreds of times in a command, and making the object takes two milliseconds.
    path = _file()
    try:
        state = path.stat()
        file = (str(path), state.st_ino, state.st_mtime_ns, state.st_size)
    except OSError:
        file = (str(path), 0, 0, 0)
    return _settings(file, tuple(os.environ.items()), tuple(_command_line.items()))


def file() -> Path | None:
    """The settings file that is read; None without one."""
    path = _file()
    return path if path.is_file() else None


def _file() -> Path:
    return Path(_command_line.get("config") or os.environ.get(f"{_OWN}CONFIG") or FILE).expanduser().absolute()


@functools.lru_cache(maxsize=4)
def _settings(*_state: object) -> Settings:
    """The settings, made anew when the file, the environment or the command line is another one than before."""
    try:
        return Settings(**_command_line)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        name = str(first["loc"][0]) if first["loc"] else "profile"
        place = _places().get(name, ("", None))[1]
        raise InvalidInput(f"{name}: {message}", where=place, do=_DO) from None


def give(pairs: Mapping[str, str]) -> None:
    """Take settings from the command line; they are stronger than all others, for the rest of the process.

    Raises:
        InvalidInput: there is no setting of that name.
    """
    for name in pairs:
        _known(name, f"--set {name}")
    _command_line.update(pairs)


def export() -> None:
    """Write what file and command line say into the environment, where Prefect, MLflow and child processes find it.

    Raises:
        InvalidInput: as ``current``.
    """
    found = current()
    for name, (source, _) in _places().items():
        if source in ("file", "command line"):
            os.environ[variable(name)] = _text(getattr(found, name), plain=True)


def explain() -> list[Setting]:
    """Every setting with its value, secrets blotted out, and where it comes from. Raises InvalidInput as ``current`` does."""
    found, places = current(), _places()
    return [
        Setting(name, variable(name), None if value is None else masked(_text(value)), *places.get(name, ("default", None)))
        for name in Settings.model_fields
        for value in [getattr(found, name)]
    ]


def strangers() -> list[str]:
    """Complaints about ``SOFTPROMPT_`` variables that name no setting: somebody may have mistyped one."""
    known = {variable(name) for name in Settings.model_fields}
    found = sorted(n for n in os.environ if n.startswith(_OWN) and n not in known and not n.startswith(FROM_PREFIX))
    return [f"{name} is no setting{_hint(name, sorted(known))}" for name in found]


def variable(name: str) -> str:
    """The environment variable of a setting."""
    alias = Settings.model_fields[name].validation_alias
    return (alias if isinstance(alias, str) else f"{_OWN}{name}").upper()


def masked(text: str) -> str:
    """``text`` with the passwords of any addresses in it blotted out."""
    text = re.sub(r"(://[^\s:/@]*):[^\s/]*@", r"\1:***@", text)
    return re.sub(r"([?&](?:password|sslpassword)=)[^&\s]*", r"\1***", text)


def _places() -> dict[str, tuple[str, str | None]]:
    """Setting → the strongest source that names it, and where in there."""
    given = {name: ("command line", f"--{name}" if name in ("config", "profile") else f"--set {name}") for name in _command_line}
    present = {name: variable(name) for name in Settings.model_fields if os.environ.get(variable(name))}
    environment = {name: ("environment", value) for name, value in present.items()}
    values = {**{name: os.environ[there] for name, there in present.items()}, **_command_line}
    found: dict[str, tuple[str, str | None]] = {}
    for place, table in reversed(_file_tables(values)):
        found |= {name: ("file", place) for name in table}
    return found | environment | given


def _file_tables(values: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """(place, settings) of the file, the strongest first: the profile's table, then the top. Empty without a file.

    Args:
        values: what is known from stronger sources; ``config`` and ``profile`` matter.
    """
    path = Path(values.get("config") or FILE).expanduser().absolute()
    top: dict[str, Any] = {}
    if values.get("config") or path.is_file():
        top = _read(path)
    profiles = top.pop("profiles", {})
    if not isinstance(profiles, dict) or not all(isinstance(table, dict) for table in profiles.values()):
        raise InvalidInput("`profiles` holds tables: [profiles.team]", where=str(path), do=_DO)
    chosen = str(values.get("profile") or top.get("profile") or "solo")
    if chosen not in ("solo", "team", *profiles):
        names = sorted({"solo", "team", *profiles})
        raise InvalidInput(
            f"there is no profile `{chosen}`{_hint(chosen, names)}", where=str(path), do=f"known: {', '.join(names)}"
        )
    for name, table in profiles.items():
        _check(table, f"{path} [profiles.{name}]", ("config", "profile"))
    _check(top, str(path), ("config",))
    found = [(f"{path} [profiles.{chosen}]", profiles.get(chosen, {})), (str(path), top)]
    return [(place, _absolute(table, path.parent)) for place, table in found]


def _check(table: Mapping[str, Any], place: str, barred: tuple[str, ...]) -> None:
    for name in table:
        _known(name, place)
        if name in barred:
            raise InvalidInput(f"`{name}` cannot stand here", where=place, do=_DO)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInput("no such settings file", where=str(path), do="correct SOFTPROMPT_CONFIG or --config") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"is not a readable TOML file: {error}", where=str(path), do=_DO) from None


def _absolute(table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Paths in a file are taken from its folder."""
    return {
        name: str(folder / Path(value).expanduser()) if isinstance(value, str) and _is_path(name) else value
        for name, value in table.items()
    }


def _is_path(name: str) -> bool:
    annotation = Settings.model_fields[name].annotation
    return annotation is Path or Path in get_args(annotation)


def _known(name: str, where: str) -> None:
    names = list(Settings.model_fields)
    if name not in names:
        raise InvalidInput(f"unknown setting `{name}`{_hint(name, names)}", where=where, do=_DO)


def _hint(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean `{close[0]}`?" if close else ""


def _text(value: Any, plain: bool = False) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value() if plain else "***"
    return ",".join(value) if isinstance(value, tuple) else str(value)
