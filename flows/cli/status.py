"""``softprompt status``: every task with its champion, last outcome, next run and health."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.running import Json

if TYPE_CHECKING:
    from softprompt_core.report.fleet_page import Cell, Tone
    from softprompt_core.stages.fleet_status import TaskStatus

_HEADINGS = ("task", "champion", "last outcome", "next run", "waits for approval", "health", "look at")


def status(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Tasks. Default: all.", show_default=False)
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one HTML page as well.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """How the tasks stand, from MLflow alone: champion and its age, last outcome, next scheduled run, approval, health."""
    from flows.cli.output import print_json, print_table
    from softprompt_core.stages import record
    from softprompt_core.stages.fleet_status import fleet_status

    now = datetime.now(UTC)
    found = fleet_status(record.client(), names or (), now)
    if html is not None:
        _write(html, found, now)
    if json:
        print_json([one.to_json() for one in found])
    elif not found:
        print("Nothing is registered yet; `softprompt run SPEC` registers a first version.")
    else:
        # One line a task: ages, but no other notes, and a mark in place of the last column, which repeats what stands before it.
        shown = [(one, _row(one, partial(_age, now=now))[:-1]) for one in found]
        rows = [
            ["!" if one.attention else "", *(_plain(cell, with_note=0 < place < 3) for place, cell in enumerate(row))]
            for one, row in shown
        ]
        print_table(("", *_HEADINGS[:-1]), rows)
        for one in found:
            if one.trouble:
                print(f"! {one.task}: {one.trouble}")
        print(_summary(found))


def _write(path: Path, found: list[TaskStatus], now: datetime) -> None:
    from softprompt_core import registry
    from softprompt_core.errors import InvalidInput
    from softprompt_core.report.fleet_page import fleet_page
    from softprompt_core.stages import record

    first = sorted(found, key=lambda one: (not one.attention, one.task))
    made = f"Made {_when(now)} from {registry.masked(record.stores().tracking_uri)} by `softprompt status --html`."
    page = fleet_page(_HEADINGS, [_row(one, _when) for one in first], summary=_summary(found), made=made)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(
            f"cannot be written: {error.strerror}", where=str(path), do="name a file in a folder that is there"
        ) from None


def _row(one: TaskStatus, told: Callable[[datetime], str]) -> list[Cell]:
    """``told`` says when something was: a page is read later than it is made, so ages would be wrong there."""
    from softprompt_core.report.fleet_page import Cell

    nothing = Cell("–", tone="quiet")
    return [
        Cell(one.task, link=one.url),
        Cell(f"v{one.champion}", told(one.champion_since) if one.champion_since else "") if one.champion is not None else nothing,
        Cell(
            one.last_outcome.replace("_", " "),
            told(one.last_at) if one.last_at else "",
            _tone(one.last_outcome),
            one.last_url or "",
        )
        if one.last_outcome
        else nothing,
        Cell(f"{one.next_run:%Y-%m-%d %H:%M %Z}", one.schedule or "") if one.next_run else nothing,
        Cell(f"v{one.pending}", f"until {one.pending_until:%Y-%m-%d}" if one.pending_until else "", "wait")
        if one.pending
        else nothing,
        Cell(one.health, f"{(one.health_at or '')[:10]} {one.health_reason or ''}".strip(), _tone(one.health))
        if one.health
        else nothing,
        Cell("; ".join(one.attention), tone="bad" if one.attention else ""),
    ]


def _plain(cell: Cell, with_note: bool) -> str:
    return f"{cell.text}, {cell.note}" if with_note and cell.note else cell.text


def _tone(word: str) -> Tone:
    first = word.split(" ")[0]
    if first in ("promoted", "healthy", "unchanged"):
        return "good"
    return "wait" if first in ("awaiting_approval", "unknown", "running") else "bad"


def _summary(found: list[TaskStatus]) -> str:
    counts = Counter(one.last_outcome.replace("_", " ") for one in found if one.last_outcome)
    parts = [
        f"{len(found)} tasks" if len(found) != 1 else "1 task",
        f"{sum(one.champion is not None for one in found)} with a champion",
        f"{sum(bool(one.attention) for one in found)} to look at",
    ]
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    return ", ".join(parts) + (f". Last outcomes: {outcomes}." if outcomes else ".")


def _age(since: datetime, now: datetime) -> str:
    minutes = max(0.0, (now - since).total_seconds() / 60)
    if minutes < 60:
        return f"{minutes:.0f} min ago"
    return f"{minutes / 60:.0f} h ago" if minutes < 48 * 60 else f"{minutes / 1440:.0f} days ago"


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
