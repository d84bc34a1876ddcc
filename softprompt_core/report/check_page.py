"""Data reports of several specs as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from softprompt_core.data.report import DataReport, word_bin_names
from softprompt_core.report.rendering import render

_SHOWN = 10


@dataclass(frozen=True)
class CheckedSpec:
    """One spec file. ``data`` is None where ``reason`` says why there is no report."""

    file: str
    task: str
    outcome: str
    reason: str
    facts: str
    data: DataReport | None


def check_page(specs: Sequence[CheckedSpec], source: str) -> str:
    """The whole HTML document.

    Args:
        specs: in the order of the page.
        source: how and when it was made.
    """
    return render("check_page.html", specs=specs, bins=word_bin_names(), shown=_SHOWN, source=source)
