"""The fleet as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from softprompt_core.report.rendering import render

Tone = Literal["good", "wait", "bad", "quiet", ""]


@dataclass(frozen=True)
class Cell:
    """``text`` with a colour, a smaller second line, and an address if it is a web address."""

    text: str
    note: str = ""
    tone: Tone = ""
    link: str = ""


def fleet_page(headings: Sequence[str], rows: Sequence[Sequence[Cell]], *, summary: str, source: str) -> str:
    """The whole HTML document.

    Args:
        rows: one a task, those that somebody should look at first; a cell for each heading.
        summary: the numbers in one sentence.
        source: where the rows are from, and when they were read.
    """
    return render("fleet_page.html", headings=headings, rows=rows, summary=summary, source=source)
