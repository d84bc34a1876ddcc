"""All tests, in processes of their own, two at a time: ``python -m tests [options of pytest]``.

Many tests wait for servers and other processes more than they compute, so two at a time take little more than half as long. A
file that restarts a Prefect server needs a process to itself: Prefect's services in a process stay with its first server.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
AT_ONCE = 2
# What takes longest begins first. A folder stands for what is in it and in no other part, so a new test is never left out.
PARTS = (
    "tests/flows",
    "tests",
    "tests/faults",
    "tests/flows/test_ray.py",
    "tests/flows/test_ci.py",
    "tests/flows/test_deploying.py",
)


def main(options: Sequence[str]) -> int:
    """Run the parts and print what each said when it is over; 0 if all passed."""
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        codes = list(pool.map(lambda part: _run(part, options), PARTS))
    except KeyboardInterrupt:  # which the parts hear as well
        pool.shutdown(cancel_futures=True)
        return 130
    failed = [part for part, code in zip(PARTS, codes, strict=True) if code]
    _say(f"{len(PARTS)} parts; failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def _run(part: str, options: Sequence[str]) -> int:
    others = [f"--ignore={other}" for other in PARTS if other.startswith(f"{part}/")]
    threads = str(max(1, (os.cpu_count() or 1) // AT_ONCE))
    began = time.monotonic()
    _say(f"{part}: begun")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", part, *others, *options],
        cwd=ROOT,
        env={"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, **os.environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    _say(f"{done.stdout}\n{part}: over after {time.monotonic() - began:.0f} s\n")
    return done.returncode


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")  # at once: `print` lets two threads mix their lines
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
