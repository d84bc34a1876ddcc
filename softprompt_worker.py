"""The flows as workers load them: deployments name this module, which no other project has.

A worker's process has the folder that holds specs and data first on ``sys.path``. A package of its own there that is called
``flows`` or ``tasks`` would be taken for ours, so ours are looked for beside this file first.
"""

from __future__ import annotations

import sys
from pathlib import Path

_here = str(Path(__file__).parent)
sys.path.insert(0, _here)
try:
    import tasks  # noqa: F401  # from here on the name is known, whatever is imported later
    from flows.fleet import fleet
    from flows.lifecycle import lifecycle
    from flows.sweep import sweep
finally:
    sys.path.remove(_here)

__all__ = ["fleet", "lifecycle", "sweep"]
