"""How much is measured: a quick look, the full page, the GPU, or (for the harness's own test) next to nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from benchmarks import shapes
from benchmarks.measure import Cost


@dataclass(frozen=True)
class Setting:
    """One comparison of training speed. ``promised``: (at least, aim) against PEFT + Trainer, where the project promises one."""

    shape: str
    tokens: int
    prompt: int
    position: Literal["prefix", "suffix"]
    promised: tuple[float, float] | None = None
    labels_only: bool = False

    def words(self) -> str:
        path = "suffix + cache" if self.position == "suffix" else self.position
        return f"{self.shape}, {self.tokens} tokens, P={self.prompt}, {path}{', label loss' if self.labels_only else ''}"


@dataclass(frozen=True)
class Plan:
    """Numbers of a whole run.

    Attributes:
        settings: compared with both peers over ``rounds`` rounds; ``extras`` with the Trainer over one.
        equal_rows, equal_steps: size of the runs on equal batches, whose losses are laid side by side.
        counts: numbers of prompts K; ``crowd`` is the shape that they are trained on.
        task: spec of the demo that the whole lifecycle is timed with; None leaves orchestration out.
    """

    device: str
    dtype: str
    main: str
    settings: tuple[Setting, ...]
    extras: tuple[Setting, ...]
    rows: int
    batch: int
    rounds: int
    equal_rows: int
    equal_steps: int
    crowd: str
    crowd_rows: int
    counts: tuple[int, ...]
    lengths: tuple[int, ...]
    growing_rows: tuple[int, ...]
    scored_rows: int
    scored_tokens: tuple[int, ...]
    by_hand: bool
    matrix: int
    task: str | None

    def counted(self, cost: Cost) -> float:
        """The seconds that promises are measured in: on a CPU those of all threads, since other programs hardly change them."""
        return cost.cpu if self.device == "cpu" else cost.wall

    @property
    def clock(self) -> str:
        return "CPU seconds" if self.device == "cpu" else "wall seconds"

    def model(self, shape: str) -> Any:
        return shapes.build(shape, self.device, self.dtype)


def _required(shape: str) -> tuple[Setting, ...]:
    return (
        Setting(shape, 25, 20, "prefix", (3.0, 5.0)),
        Setting(shape, 25, 100, "prefix", (5.0, 8.0)),
        Setting(shape, 100, 20, "suffix", (6.0, 12.0)),
    )


def _extras(shape: str) -> tuple[Setting, ...]:
    return (
        Setting(shape, 25, 20, "prefix", labels_only=True),
        Setting(shape, 25, 20, "suffix"),
        Setting(shape, 100, 20, "prefix"),
    )


_OTHERS = tuple(Setting(shape, 25, 20, "prefix") for shape in ("gpt2-small", "t5-small", "bundled"))

FULL = Plan(
    device="cpu",
    dtype="float32",
    main="llama-50m",
    settings=_required("llama-50m"),
    extras=_extras("llama-50m") + _OTHERS,
    rows=64,
    batch=32,
    rounds=2,
    equal_rows=16,
    equal_steps=6,
    crowd="bundled",
    crowd_rows=64,
    counts=(1, 4, 16, 64),
    lengths=(1, 5, 20, 50, 100),
    growing_rows=(64, 128, 256, 512),
    scored_rows=256,
    scored_tokens=(25,),
    by_hand=True,
    matrix=2048,
    task="questions",
)
QUICK = replace(
    FULL,
    extras=(),
    rows=64,
    rounds=1,
    equal_rows=8,
    equal_steps=4,
    crowd_rows=32,
    counts=(1, 4),
    lengths=(1, 20, 100),
    growing_rows=(64, 128),
    scored_rows=64,
    scored_tokens=(25,),
    by_hand=False,
    matrix=1024,
)
TINY = replace(
    QUICK,
    main="tiny-llama",
    settings=_required("tiny-llama"),
    rows=8,
    batch=4,
    equal_rows=4,
    crowd="tiny-llama",
    crowd_rows=8,
    counts=(1, 2),
    lengths=(1, 4),
    growing_rows=(4, 8),
    scored_rows=8,
    by_hand=True,
    matrix=64,
    task=None,
)


def on_gpu(plan: Plan) -> Plan:
    """The same comparisons on a 1.2B-parameter shape in bfloat16."""
    return replace(
        plan,
        device="cuda",
        dtype="bfloat16",
        main="llama-1b",
        settings=_required("llama-1b"),
        extras=_extras("llama-1b") if plan.extras else (),
        rows=512,
        equal_rows=32,
        crowd="llama-1b",
        crowd_rows=256,
        scored_rows=4096,
        matrix=8192,
    )
