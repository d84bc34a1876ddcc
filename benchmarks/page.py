"""What a part of the benchmarks hands back, and the page made from all of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from benchmarks.plan import Plan
from softprompt_core.markdown import markdown_table


@dataclass(frozen=True)
class Requirement:
    """One promise of the project. ``measured`` is a ratio, or seconds; ``bound``: whether it is a lower or an upper bound."""

    what: str
    measured: float
    at_least: float
    aim: float
    setting: str
    bound: str = "≥"
    digits: str = ".1f"
    unit: str = "×"

    def row(self) -> list[str]:
        met = self.measured >= self.at_least if self.bound == "≥" else self.measured <= self.at_least
        shown = [f"{self.bound} {value:g}{self.unit}" for value in (self.at_least, self.aim)]
        return [self.what, f"{self.measured:{self.digits}}{self.unit}", *shown, "yes" if met else "**no**", self.setting]


@dataclass(frozen=True)
class Section:
    """A table with its words. The columns from ``numbers`` on are numbers."""

    title: str
    words: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    requirements: Sequence[Requirement] = field(default_factory=tuple)
    numbers: int = 1

    def text(self) -> str:
        aligned = range(self.numbers, len(self.headings))
        return f"## {self.title}\n\n{self.words}\n\n{markdown_table(self.headings, self.rows, numbers=aligned)}"


def render(sections: Sequence[Section], plan: Plan, command: str, minutes: float) -> str:
    """The whole page, markdown."""
    import accelerate
    import peft
    import transformers

    required = [requirement.row() for section in sections for requirement in section.requirements]
    device = torch.cuda.get_device_name() if plan.device == "cuda" else f"CPU ({platform.machine()})"
    versions = ", ".join(f"{module.__name__} {module.__version__}" for module in (torch, transformers, peft, accelerate))
    parts = [
        "# Benchmarks",
        f"Made by `{command}` in {minutes:.0f} minutes on {device}, {plan.dtype}, {torch.get_num_threads()} threads of "
        f"{os.cpu_count()} cores; {versions}. "
        + ("" if plan.device == "cuda" else "No GPU was at hand; `python -m benchmarks --device cuda` measures the same there. ")
        + "Models have the shapes named and random weights (`benchmarks/shapes.py`); rows are synthetic with lognormal lengths "
        "around the mean given. All sides of a comparison run in one process and take turns; medians are shown.",
        markdown_table(["What", "Measured", "At least", "Aim", "Met", "Setting"], required, numbers=(1, 2, 3))
        if required
        else "",
        *(section.text() for section in sections),
    ]
    return "\n\n".join(part.rstrip() for part in parts if part) + "\n"
