"""What commands print: JSON on request, else a table; the outcome always stands last."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softprompt_core.lifecycle.result import LifecycleResult

NONE = "–"
_LOG_WIDTH = 140


def print_json(value: Any) -> None:
    try:
        "é✓".encode(sys.stdout.encoding or "ascii")
        ascii_only = False
    except (UnicodeEncodeError, LookupError):
        ascii_only = True  # the replacements of single characters would be no JSON
    print(json.dumps(value, indent=2, ensure_ascii=ascii_only))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*headings, box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: brackets in a user's words are no markup
    # Where there is no terminal, as in a CI log, rich would cut the cells to fit 80 characters.
    Console(width=None if sys.stdout.isatty() else _LOG_WIDTH).print(table)


def write_page(file: Path, page: str) -> None:
    """Raises InvalidInput where the file cannot be written."""
    from softprompt_core.errors import InvalidInput

    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        do = "name a file in a folder that is there"
        raise InvalidInput(f"cannot be written: {error.strerror}", where=str(file), do=do) from None


def print_links(task: str, *urls: str | None) -> None:
    """The pages that are there, a line each."""
    for url in filter(None, urls):
        print(f"{task}: {url}")


def print_results(results: Sequence[LifecycleResult]) -> None:
    """Reasons, gates, a table of all tasks, and links."""
    for result in results:
        print(f"\n{result.task}: {result.reason}")
        for line in result.gates:
            print(line)
    rows = [
        (
            result.task,
            result.ending,
            f"v{result.version}" if result.version else NONE,
            *(_score(result.scores.get(scorer)) for scorer in ("candidate", "champion", "hard_prompt", "majority")),
            f"{result.size_bytes / 1000:.0f} kB" if result.size_bytes else NONE,
            f"{result.seconds:.0f} s",
        )
        for result in results
    ]
    metrics = sorted({result.metric for result in results if result.metric})
    headings = ("task", "outcome", "version", "candidate", "champion", "hard prompt", "majority", "size", "took")
    print()
    print_table(headings, rows, title=f"Test {' / '.join(metrics)}" if metrics else None)
    for result in results:
        print_links(result.task, result.run_url, result.prefect_url)
        if result.to_approve:
            print(f"{result.task}: to approve: {result.to_approve}")


def print_outcome(results: Sequence[LifecycleResult]) -> None:
    for result in results:
        print(f"{result.task}: {result.label}" if len(results) > 1 else result.label)


def _score(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"
