"""The environment of a child process that works with another profile than this one.

MLflow and boto3 read addresses, log-ins and keys from their environment, so one process cannot tell two places apart.
"""

from __future__ import annotations

import os

from softprompt_core.errors import InvalidInput
from softprompt_core.settings.model import FROM_PREFIX, PREFIX, Settings, variable
from softprompt_core.settings.sources import file


def environment_of(profile: str) -> dict[str, str]:
    """Variables for a child process that uses ``profile`` of this process's settings file.

    Settings that the environment or the command line give to this process are not handed on: they are meant for the place that it
    works with, and a log-in must not be sent to another. ``SOFTPROMPT_FROM_<VARIABLE>`` becomes ``<VARIABLE>`` there.

    Raises:
        InvalidInput: such a variable names no setting.
    """
    own = {variable(name) for name in Settings.model_fields}
    environment = {}
    for name, value in os.environ.items():
        if name.startswith(FROM_PREFIX):
            rest = name.removeprefix(FROM_PREFIX)
            target = rest if rest in own else f"{PREFIX}{rest}"
            if target not in own:
                do = f"write {FROM_PREFIX} and then a variable of docs/settings.md"
                raise InvalidInput("names no setting", where=name, do=do)
            environment[target] = value
        elif name not in own:
            environment[name] = value
    settings_file = file()
    if settings_file is not None:
        environment[variable("config")] = str(settings_file)
    return {**environment, variable("profile"): profile}
