"""A training's state on disk: safetensors and JSON, never a pickle; enough to continue to the bit-identical prompt.

Batches are drawn from a generator seeded by (seed, epoch), and nothing else is random, so the step number is at once the data
cursor and the state of the random generator; the schedule is a function of the step.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softprompt_core.json_files import replacing


@dataclass
class TrainingState:
    """Everything that changes while training."""

    prompt: Tensor
    best: Tensor
    step: int = 0
    best_step: int = 0
    best_score: tuple[float, float] = (float("-inf"), float("-inf"))
    seconds: float = 0.0
    finished: str = ""
    losses: list[float] = field(default_factory=list)  # of the steps since the last check
    history: list[dict[str, float]] = field(default_factory=list)


def save(path: Path, state: TrainingState, optimizer: torch.optim.Optimizer, key: str) -> None:
    """Write the checkpoint; a crash while writing leaves the previous one."""
    from safetensors.torch import save_file

    tensors = {"prompt": state.prompt.detach().clone().cpu(), "best": state.best.clone().cpu()}
    for name, value in _moments(optimizer).items():
        tensors[f"optimizer.{name}"] = value.clone().cpu()
    values = {name: value for name, value in vars(state).items() if name not in ("prompt", "best")}
    with replacing(path) as partial:
        save_file(tensors, partial, metadata={"key": key, "state": json.dumps(values)})


def load(path: Path, key: str) -> tuple[TrainingState, dict[str, Tensor]] | None:
    """TrainingState and optimiser moments, or None when there is no checkpoint of exactly this training (``key``)."""
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError):
        return None
    if meta.get("key") != key:
        return None
    values: dict[str, Any] = json.loads(meta["state"])
    values["best_score"] = tuple(values["best_score"])
    state = TrainingState(prompt=tensors["prompt"], best=tensors["best"], **values)
    return state, {n.removeprefix("optimizer."): t for n, t in tensors.items() if n.startswith("optimizer.")}


def restore(optimizer: torch.optim.Optimizer, prompt: Tensor, moments: dict[str, Tensor]) -> None:
    """Give a new optimiser of ``prompt`` the moments that ``load`` returned."""
    if moments:
        # AdamW counts its steps on the CPU, wherever the prompt is.
        optimizer.state[prompt] = {n: t if n == "step" else t.to(prompt.device) for n, t in moments.items()}


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    states = list(optimizer.state.values())
    return {name: torch.as_tensor(value) for name, value in states[0].items()} if states else {}
