"""Peak memory of one training, each measured in a fresh process of its own.

On a CPU this is the process's peak resident set: interpreter, libraries and model included, nothing subtracted.
On a GPU it is the most that torch had allocated there.

    python -m benchmarks.memory '{"side": "ours", "shape": "llama-50m", ...}'     prints bytes
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict

from benchmarks import ours, peers, shapes
from benchmarks.measure import Stopwatch

_ROOT = Path(__file__).parents[1]


class Training(BaseModel):
    """Two epochs of training ``count`` prompts together; ``trainer`` is PEFT's, for one prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: Literal["ours", "trainer"]
    shape: str
    device: str = "cpu"
    dtype: str = "float32"
    rows: int
    batch: int
    tokens: int
    prompt: int
    position: Literal["prefix", "suffix"] = "prefix"
    count: int = 1


def peak_bytes(training: Training) -> int:
    """Peak of a training. Raises RuntimeError if its process fails."""
    command = [sys.executable, "-m", "benchmarks.memory", training.model_dump_json()]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=3600)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return int(done.stdout.strip().splitlines()[-1])


def _main(training: Training) -> int:
    model = shapes.build(training.shape, training.device, training.dtype)
    steps = 2 * max(1, training.rows // training.batch)
    recipe = shapes.Recipe(steps=steps, batch_size=training.batch, position=training.position)
    tasks = [shapes.examples(model, training.rows, training.tokens, seed) for seed in range(training.count)]
    starts = [shapes.start(model, training.prompt, seed) for seed in range(training.count)]
    if training.side == "ours":
        ours.train_joint(ours.base_of(model), tasks, starts, recipe)
    else:
        peers.with_trainer(model, tasks[0], starts[0], recipe, Stopwatch(1, recipe.steps))
    if training.device == "cuda":
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
    print(_main(Training.model_validate_json(sys.argv[1])))
