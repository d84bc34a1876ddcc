"""The settings file: tables of settings, and their mistakes."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo

from softprompt_core.errors import InvalidInput, closest

FILE = "softprompt.toml"
ADVICE = "`softprompt config show` lists every setting; docs/settings.md explains them"

Fields = Mapping[str, FieldInfo]
"""Setting → its field in ``Settings``."""


def file_tables(fields: Fields, stronger: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Tables of the file as (place, settings), the strongest first: the profile's table, then the top. Empty without a file.

    Args:
        stronger: settings of environment and command line; ``config`` and ``profile`` choose file and profile.

    Raises:
        InvalidInput: the file cannot be read, names an unknown setting, or has no table for the profile.
    """
    path = Path(stronger.get("config") or FILE).expanduser().absolute()
    top = _read(path) if stronger.get("config") or path.is_file() else {}
    profiles = top.pop("profiles", {})
    if not isinstance(profiles, dict) or not all(isinstance(table, dict) for table in profiles.values()):
        raise InvalidInput("`profiles` holds tables: [profiles.team]", where=str(path), do=ADVICE)
    profile = str(stronger.get("profile") or top.get("profile") or "solo")
    names = sorted({"solo", "team", *profiles})
    if profile not in names:
        problem = f"there is no profile `{profile}`{nearest(profile, names)}"
        raise InvalidInput(problem, where=str(path), do=f"known: {', '.join(names)}")
    for name, table in profiles.items():
        _check(fields, table, f"{path} [profiles.{name}]", not_here=("config", "profile"))
    _check(fields, top, str(path), not_here=("config",))
    tables = [(f"{path} [profiles.{profile}]", profiles.get(profile, {})), (str(path), top)]
    return [(place, _with_absolute_paths(fields, table, path.parent)) for place, table in tables]


def check_name(fields: Fields, name: str, where: str) -> None:
    """Raises InvalidInput if there is no setting of that name."""
    if name not in fields:
        raise InvalidInput(f"unknown setting `{name}`{nearest(name, fields)}", where=where, do=ADVICE)


def nearest(name: str, names: Iterable[str]) -> str:
    """The rest of a sentence that asks whether the most similar name is meant; empty if none is similar."""
    close = closest(name, names)
    return f"; did you mean `{close}`?" if close else ""


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInput("no such settings file", where=str(path), do="correct SOFTPROMPT_CONFIG or --config") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"is not a readable TOML file: {error}", where=str(path), do=ADVICE) from None


def _check(fields: Fields, table: Mapping[str, Any], place: str, not_here: tuple[str, ...]) -> None:
    for name in table:
        check_name(fields, name, place)
        if name in not_here:
            raise InvalidInput(f"`{name}` cannot stand here", where=place, do=ADVICE)


def _with_absolute_paths(fields: Fields, table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Paths in a file are taken from its folder."""

    def is_path(name: str) -> bool:
        annotation = fields[name].annotation
        return annotation is Path or Path in get_args(annotation)

    return {
        name: str(folder / Path(value).expanduser()) if isinstance(value, str) and is_path(name) else value
        for name, value in table.items()
    }
