"""Which modules a command has imported when it ends: heavy ones cost every user seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).parents[2]
_CODE = """
import json, sys
names, sys.argv = json.loads(sys.argv[1]), ["softprompt", *sys.argv[2:]]
from flows.cli import main
try:
    main()
except SystemExit as ended:
    print(json.dumps([sorted(set(names) & set(sys.modules)), ended.code or 0]), file=sys.stderr)
"""


def loaded_by(
    *arguments: str | Path, among: Collection[str], current_folder: Path = ROOT, **environment: str
) -> tuple[list[str], int, str]:
    """Run a command in a process of its own: the modules ``among`` these that it has loaded, its exit code, and its stdout."""
    done = subprocess.run(
        [sys.executable, "-c", _CODE, json.dumps(list(among)), *map(str, arguments)],
        cwd=current_folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    assert done.stderr.splitlines()[-1].startswith("[["), done.stderr
    loaded, code = json.loads(done.stderr.splitlines()[-1])
    return loaded, code, done.stdout
