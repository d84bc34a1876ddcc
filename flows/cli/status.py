"""``softprompt status``: every task with its champion, last outcome, next run and health."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import Json

if TYPE_CHECKING:
    from softprompt_core.operations.status import TaskStatus
    from softprompt_core.report.fleet_page import Cell, Tone

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
    from softprompt_core.operations.status import fleet_status
    from softprompt_core.store import overview
    from softprompt_core.store.connection import Store

    now = datetime.now(UTC)
    store = Store.connect()
    tasks = fleet_status(store, names or (), now)
    if (note := overview.foreign_note(overview.foreign_models(store))) is not None:
        print(f"! {note}", file=sys.stderr)
    if html is not None:
        _write(html, tasks, store.addresses.masked_tracking_uri, now)
    if json:
        print_json([task.model_dump(mode="json") for task in tasks])
    elif not tasks:
        print("Nothing is registered yet; `softprompt run SPEC` registers a first version.")
    else:
        print_table(("", *_HEADINGS[:-1]), [_line(task, now) for task in tasks])
        for task in tasks:
            if task.trouble:
                print(f"! {task.task}: {task.trouble}")
        print(_summary(tasks))


def _write(file: Path, tasks: list[TaskStatus], record: str, now: datetime) -> None:
    from flows.cli.output import write_page
    from softprompt_core.report.fleet_page import fleet_page

    in_order = sorted(tasks, key=lambda task: (not task.attention, task.task))  # who needs a look first
    source = f"Made {_utc(now)} from {record} by `softprompt status --html`."
    write_page(file, fleet_page(_HEADINGS, [_row(task, _utc) for task in in_order], summary=_summary(tasks), source=source))


def _line(task: TaskStatus, now: datetime) -> list[str]:
    """A row for the terminal: ages, but no other notes, and a mark in place of the last column, which repeats the others."""
    name, champion, outcome, *others = _row(task, partial(_age, now=now))[:-1]
    with_ages = [f"{cell.text}, {cell.note}" if cell.note else cell.text for cell in (champion, outcome)]
    return ["!" if task.attention else "", name.text, *with_ages, *(cell.text for cell in others)]


def _row(task: TaskStatus, moment: Callable[[datetime], str]) -> list[Cell]:
    """A row for the page.

    Args:
        moment: says when something was: a page is read later than it is made, so ages would be wrong there.
    """
    from softprompt_core.report.fleet_page import Cell

    champion = outcome = next_run = pending = health = Cell("–", tone="quiet")
    if task.champion is not None:
        champion = Cell(f"v{task.champion}", moment(task.champion_since) if task.champion_since else "")
    if task.last_outcome:
        when = moment(task.last_at) if task.last_at else ""
        outcome = Cell(task.last_outcome.replace("_", " "), when, _tone(task.last_outcome), task.last_url or "")
    if task.next_run:
        next_run = Cell(f"{task.next_run:%Y-%m-%d %H:%M %Z}", task.schedule or "")
    if task.pending:
        pending = Cell(f"v{task.pending}", f"until {task.pending_until:%Y-%m-%d}" if task.pending_until else "", "wait")
    if task.health:
        health = Cell(task.health, f"{(task.health_at or '')[:10]} {task.health_reason or ''}".strip(), _tone(task.health))
    attention = Cell("; ".join(task.attention), tone="bad" if task.attention else "")
    return [Cell(task.task, link=task.url), champion, outcome, next_run, pending, health, attention]


def _tone(word: str) -> Tone:
    first = word.split(" ")[0]
    if first in ("promoted", "healthy", "unchanged"):
        return "good"
    return "wait" if first in ("awaiting_approval", "unknown", "running") else "bad"


def _summary(tasks: list[TaskStatus]) -> str:
    counts = Counter(task.last_outcome.replace("_", " ") for task in tasks if task.last_outcome)
    parts = [
        f"{len(tasks)} tasks" if len(tasks) != 1 else "1 task",
        f"{sum(task.champion is not None for task in tasks)} with a champion",
        f"{sum(bool(task.attention) for task in tasks)} to look at",
    ]
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    return ", ".join(parts) + (f". Last outcomes: {outcomes}." if outcomes else ".")


def _age(since: datetime, now: datetime) -> str:
    minutes = max(0.0, (now - since).total_seconds() / 60)
    if minutes < 60:
        return f"{minutes:.0f} min ago"
    return f"{minutes / 60:.0f} h ago" if minutes < 48 * 60 else f"{minutes / 1440:.0f} days ago"


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
