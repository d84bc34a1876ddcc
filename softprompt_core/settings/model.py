"""``Settings``: every setting with its default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, InitSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from softprompt_core.errors import Outcome
from softprompt_core.settings.toml_file import file_tables

PREFIX = "SOFTPROMPT_"
"""Begins the environment variables of settings that no library knows under a name of its own."""
FROM_PREFIX = f"{PREFIX}FROM_"
"""Begins variables that are meant for another profile."""


def _library_variable(variable: str) -> Any:
    """A setting that a library reads from the environment itself."""
    return Field(None, validation_alias=variable.lower())


class Settings(BaseSettings):
    """Where things are, and how much may be used."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
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
    mlflow_tracking_uri: str | None = _library_variable("MLFLOW_TRACKING_URI")
    """MLflow's server or database; default: a SQLite file in `home`."""
    mlflow_registry_uri: str | None = _library_variable("MLFLOW_REGISTRY_URI")
    """Where registered models are, if elsewhere."""
    mlflow_tracking_username: str | None = _library_variable("MLFLOW_TRACKING_USERNAME")
    """Log-in to MLflow's server."""
    mlflow_tracking_password: SecretStr | None = _library_variable("MLFLOW_TRACKING_PASSWORD")
    """Its password."""
    mlflow_tracking_token: SecretStr | None = _library_variable("MLFLOW_TRACKING_TOKEN")
    """Or a token in place of both."""
    artifact_root: str | None = None
    """URI under which files of new experiments go, for instance `s3://bucket/softprompt`; default: a folder in `home`,
    or what the MLflow server says."""
    mlflow_s3_endpoint_url: str | None = _library_variable("MLFLOW_S3_ENDPOINT_URL")
    """Address of S3-compatible storage that is not Amazon's."""
    aws_access_key_id: SecretStr | None = _library_variable("AWS_ACCESS_KEY_ID")
    """Key of that storage, where this machine reaches it directly."""
    aws_secret_access_key: SecretStr | None = _library_variable("AWS_SECRET_ACCESS_KEY")
    """Its secret."""
    checkpoint_s: float = Field(5.0, ge=0)
    """Seconds between two checkpoints of a training, some tens of kB each; 0 writes one after each step."""
    server_wait_s: float = Field(120.0, ge=0)
    """Seconds that a lifecycle waits, each time, for MLflow or Prefect when they have stopped answering."""
    prefect_api_url: str | None = _library_variable("PREFECT_API_URL")
    """Prefect's server, ending in `/api`; default: one of its own for each command."""
    prefect_api_key: SecretStr | None = _library_variable("PREFECT_API_KEY")
    """Key of Prefect Cloud."""
    prefect_api_auth_string: SecretStr | None = _library_variable("PREFECT_API_AUTH_STRING")
    """`user:password` of a self-hosted Prefect server."""
    base_model: str | None = None
    """Folder of the base on this machine, where versions are served and their spec names another place."""
    cache_bytes: int = Field(2_500_000_000, ge=0)
    """Bytes for keys and values of frozen inputs, for each list of inputs; 0 keeps nothing."""
    cache_dir: Path | None = None
    """Folder for them; default: in memory."""
    ray_address: str | None = _library_variable("RAY_ADDRESS")
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
    def _from_commas(cls, value: Any) -> Any:
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
        tables = file_tables(settings_cls.model_fields, {**env_settings(), **init_settings()})
        return init_settings, env_settings, *(InitSettingsSource(settings_cls, dict(table)) for _, table in tables)


def variable(name: str) -> str:
    """The environment variable of a setting."""
    alias = Settings.model_fields[name].validation_alias
    return (alias if isinstance(alias, str) else f"{PREFIX}{name}").upper()
