"""Trained prompts as they lie in the workspace. Needs no torch: whoever chooses among them or reports them only reads files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softprompt_core.spec import PromptSpec
from softprompt_core.stages.workspace import Workspace, read_json


@dataclass(frozen=True)
class Trained:
    """One trained prompt: file, what decided it, and its best validation score.

    Attributes:
        error: standard error of ``metric`` over the validation rows; None for a single row.
        seconds: until this prompt was done; the others of a joint training were trained in the same time.
    """

    seed: int
    prompt: str
    facts: str
    metric: float
    loss: float
    seconds: float
    stopped: str
    error: float | None = None


def seeds(spec: PromptSpec) -> range:
    return range(spec.training.seed, spec.training.seed + spec.training.seeds)


def finished(place: Workspace, seeds: Sequence[int], key: str) -> list[Trained] | None:
    """What a finished training of all seeds left; None if one is missing or was another training (``key``)."""
    found = []
    for seed in seeds:
        if not place.prompt(seed).exists() or not place.training(seed).exists():
            return None
        facts = read_json(place.training(seed))
        if facts.get("key") != key:
            return None
        score = {name: facts[name] for name in ("metric", "loss", "error", "seconds", "stopped")}
        found.append(Trained(seed, str(place.prompt(seed)), str(place.training(seed)), **score))
    return found


def best(trained: Sequence[Trained]) -> Trained:
    """The seed that is best on validation: metric first, then loss, then the earlier seed. Test rows play no part."""
    return max(trained, key=lambda t: (t.metric, -t.loss, -t.seed))


def facts(trained: Trained) -> dict[str, Any]:
    """Effective settings, history, step and seconds of a training."""
    found: dict[str, Any] = read_json(Path(trained.facts))
    return found


def curve(trained: Trained) -> list[dict[str, float]]:
    """The history of a training; NaN where a value is missing."""
    return [{k: float("nan") if v is None else v for k, v in entry.items()} for entry in facts(trained)["history"]]
