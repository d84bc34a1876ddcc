"""Peak memory of one training, each measured in a fresh process of its own.

On a CPU this is the process's peak resident set: interpreter, libraries and model included, nothing subtracted.
On a GPU it is the most that torch had allocated there.

    python -m benchmarks.memory '{"side": "ours", "shape": "llama-50m", ...}'     prints bytes
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks import ours, peers, shapes
from benchmarks.measure import Stopwatch

_ROOT = Path(__file__).parents[1]


def peak_bytes(
    side: str,
    *,
    shape: str,
    device: str,
    dtype: str,
    rows: int,
    batch: int,
    tokens: int,
    prompt: int,
    position: str,
    count: int = 1,
) -> int:
    """Peak of two epochs of training ``count`` prompts; ``side`` is ``ours`` or ``trainer``. Raises if the process fails."""
    options = {name: value for name, value in locals().items()}
    command = [sys.executable, "-m", "benchmarks.memory", json.dumps(options)]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=3600)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return int(done.stdout.strip().splitlines()[-1])


def _main(options: dict[str, object]) -> int:
    def number(name: str) -> int:
        return int(str(options[name]))

    model = shapes.build(str(options["shape"]), str(options["device"]), str(options["dtype"]))
    recipe = shapes.Recipe(steps=2 * max(1, number("rows") // number("batch")), batch_size=number("batch"))
    tasks = [shapes.examples(model, number("rows"), number("tokens"), seed) for seed in range(number("count"))]
    starts = [shapes.start(model, number("prompt"), seed) for seed in range(number("count"))]
    if options["side"] == "ours":
        ours.train_joint(ours.base_of(model), tasks, starts, str(options["position"]), recipe)
    else:
        peers.with_trainer(model, tasks[0], starts[0], recipe, Stopwatch(1, recipe.steps))
    if options["device"] == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return _peak_resident_bytes()


def _peak_resident_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        # Not `ru_maxrss`: on Linux a new process takes that over from the one that started it.
        (kilobytes,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(kilobytes) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    print(_main(json.loads(sys.argv[1])))
