"""The environment of a process that works with another profile than this one.

MLflow and boto3 read addresses, log-ins and keys from their environment, so one process cannot tell two places apart.
"""

from __future__ import annotations

import os

from softprompt_core import settings
from softprompt_core.errors import InvalidInput
from softprompt_core.settings import FROM_PREFIX, Settings, variable

_OWN = "SOFTPROMPT_"


def environment_of(profile: str) -> dict[str, str]:
    """Variables for a child process that uses ``profile`` of this process's settings file.

    Settings that the environment or the command line give to this process are not handed on: they are meant for the place that it
    works with, and a log-in must not be sent to another. ``SOFTPROMPT_FROM_<VARIABLE>`` becomes ``<VARIABLE>`` there.

    Raises:
        InvalidInput: such a variable names no setting.
    """
    own = {variable(name) for name in Settings.model_fields}
    found = {name: value for name, value in os.environ.items() if name not in own and not name.startswith(FROM_PREFIX)}
    for name, value in os.environ.items():
        if name.startswith(FROM_PREFIX):
            bare = name.removeprefix(FROM_PREFIX)
            known = bare if bare in own else f"{_OWN}{bare}"
            if known not in own:
                raise InvalidInput(
                    "names no setting", where=name, do=f"write {FROM_PREFIX} and then a variable of docs/settings.md"
                )
            found[known] = value
    file = settings.file()
    if file is not None:
        found[variable("config")] = str(file)
    return {**found, variable("profile"): profile}
