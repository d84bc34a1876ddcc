"""The settings in force: where each value comes from, and what the command line changes."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from softprompt_core.errors import InvalidInput
from softprompt_core.masking import masked
from softprompt_core.settings.model import FROM_PREFIX, PREFIX, Settings, variable
from softprompt_core.settings.proxies import settle_proxies
from softprompt_core.settings.toml_file import ADVICE, FILE, check_name, file_tables, nearest

_command_line: dict[str, Any] = {}


@dataclass(frozen=True)
class Setting:
    """One setting in force.

    ``value`` is fit to be shown; ``source`` is ``default``, ``file``, ``environment`` or ``command line``.
    """

    name: str
    variable: str
    value: str | None
    source: str
    place: str | None
    """The file, the table in it, the variable or the option that the value stands in."""


def current() -> Settings:
    """The settings in force.

    Raises:
        InvalidInput: a setting that is unknown or has an impossible value; names the file, variable or option.
    """
    # Links and folders ask hundreds of times in a command, and making the object takes two milliseconds.
    path = _file_path()
    try:
        status = path.stat()
        state = (str(path), status.st_ino, status.st_mtime_ns, status.st_size)
    except OSError:
        state = (str(path), 0, 0, 0)
    return _settings(state, tuple(os.environ.items()), tuple(_command_line.items()))


def override(values: Mapping[str, str]) -> None:
    """Set what the command line names; it is stronger than all other sources, for the rest of the process.

    Raises:
        InvalidInput: there is no setting of that name.
    """
    for name in values:
        check_name(Settings.model_fields, name, f"--set {name}")
    _command_line.update(values)


def export() -> None:
    """Write what file and command line say into the environment, where Prefect, MLflow and child processes find it.

    Proxies of the environment are made such that these can use them, too.

    Raises:
        InvalidInput: as ``current``.
    """
    settings = current()
    for name, (source, _) in _origins().items():
        if source in ("file", "command line"):
            os.environ[variable(name)] = _text(getattr(settings, name), show_secrets=True)
    settle_proxies()


def explain() -> list[Setting]:
    """Every setting with its value, secrets blotted out, and where it comes from. Raises InvalidInput as ``current`` does."""
    origins = _origins()
    return [
        Setting(name, variable(name), None if value is None else masked(_text(value)), *origins.get(name, ("default", None)))
        for name, value in current()
    ]


def unknown_variables() -> list[str]:
    """Complaints about ``SOFTPROMPT_`` variables that name no setting: somebody may have mistyped one."""
    known = sorted(variable(name) for name in Settings.model_fields)
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    return [f"{name} is no setting{nearest(name, known)}" for name in unknown if not name.startswith(FROM_PREFIX)]


def file() -> Path | None:
    """The settings file that is read; None without one."""
    path = _file_path()
    return path if path.is_file() else None


def home() -> Path:
    """The project's own folder, the setting ``home``: by default ``.softprompt`` in the current folder. Stores, work, locks.

    Raises:
        InvalidInput: as ``current``; or no database could be in the folder.
    """
    chosen = current().home
    try:
        path = chosen.expanduser().absolute()
    except RuntimeError as error:  # of `~name`, where there is no such user
        raise InvalidInput(f"home: {error}", where=str(chosen), do="name a folder, with SOFTPROMPT_HOME for one") from None
    if "?" in str(path):
        what = "a folder with `?` in its path cannot hold databases: in their addresses `?` begins parameters"
        raise InvalidInput(what, where=f"home {path}", do="name another folder, with SOFTPROMPT_HOME for one")
    return path


@functools.lru_cache(maxsize=4)
def _settings(*_state: object) -> Settings:
    """The settings, made anew when the file, the environment or the command line is another one than before."""
    try:
        return Settings(**_command_line)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        name = str(first["loc"][0]) if first["loc"] else "profile"
        place = _origins().get(name, ("", None))[1]
        raise InvalidInput(f"{name}: {message}", where=place, do=ADVICE) from None


def _file_path() -> Path:
    return Path(_command_line.get("config") or os.environ.get(variable("config")) or FILE).expanduser().absolute()


def _origins() -> dict[str, tuple[str, str | None]]:
    """Setting → the strongest source that names it, and the place in there."""
    variables = {name: variable(name) for name in Settings.model_fields if os.environ.get(variable(name))}
    values = {**{name: os.environ[key] for name, key in variables.items()}, **_command_line}
    origins: dict[str, tuple[str, str | None]] = {}
    for place, table in reversed(file_tables(Settings.model_fields, values)):
        origins |= {name: ("file", place) for name in table}
    origins |= {name: ("environment", key) for name, key in variables.items()}
    options = {name: f"--{name}" if name in ("config", "profile") else f"--set {name}" for name in _command_line}
    return origins | {name: ("command line", option) for name, option in options.items()}


def _text(value: Any, show_secrets: bool = False) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value() if show_secrets else "***"
    return ",".join(value) if isinstance(value, tuple) else str(value)
