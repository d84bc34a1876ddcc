"""Markdown tables that survive any label or slice name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = ()) -> str:
    """A GitHub-style table; the columns in ``numbers`` (0-based) are right-aligned."""
    rule = ["---:" if column in numbers else "---" for column in range(len(headings))]
    lines = [headings, rule, *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def number(value: float | None) -> str:
    """Four significant digits, whole numbers in full; a dash for None."""
    if value is None:
        return "–"
    whole = float(value).is_integer() and abs(value) < 1e15
    return f"{value + 0.0:.0f}" if whole else f"{value:.4g}"


def _cell(text: str) -> str:
    # Labels, slice names and model answers are other people's words: a bar or a line break in one would break the table.
    return " ".join(text.replace("|", "\\|").split())
