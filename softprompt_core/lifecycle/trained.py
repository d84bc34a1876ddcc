"""Trained prompts as they lie in the workspace. Needs no torch: whoever chooses among them or reports them only reads files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softprompt_core.json_files import read_json
from softprompt_core.lifecycle.workspace import Workspace


@dataclass(frozen=True)
class TrainedSeed:
    """One trained prompt: its files and its best validation score.

    Attributes:
        prompt: the soft prompt's file.
        record: the file with effective settings, history, steps and seconds.
        metric: best validation metric (accuracy, or negative loss for generation).
        error: standard error of ``metric`` over the validation rows; None for a single row.
        seconds: until this prompt was done; the others of a joint training were trained in the same time.
    """

    seed: int
    prompt: Path
    record: Path
    metric: float
    loss: float
    seconds: float
    stopped: str
    error: float | None = None

    def read_record(self) -> dict[str, Any]:
        """Effective settings, history, steps and seconds of the training."""
        record: dict[str, Any] = read_json(self.record)
        return record


def finished_seed(workspace: Workspace, seed: int, key: str | None = None) -> TrainedSeed | None:
    """A finished training; None if there is none, or if it was another one than ``key`` names."""
    prompt, record = workspace.prompt(seed), workspace.training(seed)
    if not (prompt.exists() and record.exists()):
        return None
    values = read_json(record)
    if key is not None and values.get("key") != key:
        return None
    scores = {name: values[name] for name in ("metric", "loss", "error", "seconds", "stopped")}
    return TrainedSeed(seed, prompt, record, **scores)


def best_seed(seeds: Sequence[TrainedSeed]) -> TrainedSeed:
    """The seed that is best on validation: metric first, then loss, then the earlier seed. Test rows play no part."""
    return max(seeds, key=lambda trained: (trained.metric, -trained.loss, -trained.seed))
