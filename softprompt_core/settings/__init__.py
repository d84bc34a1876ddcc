"""What differs from machine to machine: addresses, folders, budgets.

One object, from weakest to strongest: a default, the top of ``softprompt.toml``, the chosen profile's table in it, an environment
variable, the command line. A change of any of these counts from the next call on.
"""

from softprompt_core.settings.model import FROM_PREFIX, Settings, variable
from softprompt_core.settings.profiles import environment_of
from softprompt_core.settings.sources import Setting, current, explain, export, file, home, override, unknown_variables
from softprompt_core.settings.toml_file import FILE

__all__ = [
    "FILE",
    "FROM_PREFIX",
    "Setting",
    "Settings",
    "current",
    "environment_of",
    "explain",
    "export",
    "file",
    "home",
    "override",
    "unknown_variables",
    "variable",
]
