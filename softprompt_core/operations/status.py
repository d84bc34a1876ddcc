"""The operator's view: how every task stands, from MLflow alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, PlainSerializer

from softprompt_core.errors import Health, InvalidInput, Outcome
from softprompt_core.store import overview, tags, versions
from softprompt_core.store.connection import Store
from softprompt_core.store.overview import TaskOverview
from softprompt_core.store.versions import Version

_BAD = (Outcome.REJECTED, Outcome.DIVERGED, Outcome.INVALID, Outcome.UNAVAILABLE, "failed", "killed")


Moment = Annotated[datetime, PlainSerializer(lambda moment: moment.isoformat(timespec="seconds"), str, when_used="json")]


class TaskStatus(BaseModel):
    """One task. Moments are UTC; ``next_run`` is in the schedule's time zone.

    Attributes:
        champion_since: when the champion became it.
        last_outcome: of the last lifecycle that MLflow knows (``unchanged`` leaves no trace there), or ``failed``, ``killed``,
            ``running`` for a run without one.
        schedule: cron and time zone of the champion's spec (without a champion: of the newest version's).
        pending: the newest version that may still be approved; ``health``: what ``softprompt monitor`` last said.
        trouble: a champion that was moved by hand, or a ledger that cannot be read.
        attention: why a person should look, in words; empty when nobody needs to.
        url: its page in MLflow.
    """

    model_config = ConfigDict(frozen=True)

    task: str
    champion: int | None = None
    champion_since: Moment | None = None
    last_outcome: str | None = None
    last_at: Moment | None = None
    last_url: str | None = None
    schedule: str | None = None
    next_run: Moment | None = None
    pending: int | None = None
    pending_until: Moment | None = None
    health: str | None = None
    health_reason: str | None = None
    health_at: str | None = None
    trouble: str | None = None
    attention: tuple[str, ...] = ()
    url: str = ""


def fleet_status(store: Store, names: Sequence[str] = (), now: datetime | None = None) -> list[TaskStatus]:
    """The tasks of these names, or all, by name.

    Args:
        now: what schedules are counted from; needs a time zone. Default: the present.

    Raises:
        InvalidInput: MLflow knows no task of that name.
    """
    tasks = {task.name: task for task in overview.overview(store)}
    for name in names:
        if name not in tasks:
            versions.require_ours(store, name)
            raise InvalidInput("MLflow knows no such task", where=name, do="`softprompt status` shows all")
    now = now or datetime.now(UTC)
    return [_status(store, tasks[name], now) for name in sorted(names or tasks)]


def next_run(schedule: str, after: datetime) -> datetime | None:
    """The next time after ``after`` that a schedule names, in the schedule's own time zone.

    Args:
        schedule: five cron fields and an IANA time zone.
        after: needs a time zone.

    Returns None when there is none, or somebody has changed the tag so that it cannot be read.
    """
    from cronsim import CronSim, CronSimError

    cron, _, timezone = schedule.rpartition(" ")
    try:
        return next(CronSim(cron, after.astimezone(ZoneInfo(timezone))), None)
    except (CronSimError, ZoneInfoNotFoundError, ValueError):
        return None


def _status(store: Store, task: TaskOverview, now: datetime) -> TaskStatus:
    state = task.state
    number = state.champion if state else next((v.version for v in task.versions if tags.CHAMPION in v.aliases), None)
    champion = next((version for version in task.versions if version.version == number), None)
    waiting = next((v for v in task.versions if v.awaits_approval and not v.approval_expired()), None)
    last_outcome, last_at, last_url = _last(store, task)
    spec_of = champion or next(iter(task.versions), None)
    schedule = spec_of.tags.get(tags.SCHEDULE) if spec_of else None
    health = task.health.about(number) if task.health else None
    trouble = state.moved_by_hand if state else task.ledger_error
    notes = [
        f"last lifecycle: {last_outcome}" if last_outcome in _BAD else "",
        f"version {waiting.version} waits for approval" if waiting else "",
        f"champion is {health}" if task.health and task.health.health != Health.HEALTHY else "",
        "no champion" if number is None else "",
        trouble or "",
    ]
    return TaskStatus(
        task=task.name,
        champion=number,
        champion_since=_since(task, champion),
        last_outcome=last_outcome,
        last_at=last_at,
        last_url=last_url,
        schedule=schedule,
        next_run=next_run(schedule, now) if schedule else None,
        pending=waiting.version if waiting else None,
        pending_until=waiting.approval_expires if waiting else None,
        health=health,
        health_reason=task.health.reason if task.health else None,
        health_at=task.health.at if task.health else None,
        trouble=trouble,
        attention=tuple(note for note in notes if note),
        url=store.model_url(task.name),
    )


def _last(store: Store, task: TaskOverview) -> tuple[str | None, datetime | None, str | None]:
    """Outcome, time and page of whatever happened last: a decided version, or a run that decided nothing."""
    decided = max((v for v in task.versions if v.decision is not None), key=lambda v: v.decided_at, default=None)
    run = task.unfinished
    if run is not None and any(v.run_id == run.run_id and tags.OUTCOME in v.tags for v in task.versions):
        run = None  # it was killed between its decision and its end; the decision counts
    if run is not None and (decided is None or run.at > decided.decided_at):
        return run.outcome, run.at, store.run_url(run.experiment_id, run.run_id)
    if decided is None:
        return None, None, None
    outcome = decided.tags[tags.OUTCOME]
    if decided.approval_expired():
        outcome = "approval expired"
    elif tags.WITHDRAWN in decided.tags:
        outcome = "rolled back"
    return outcome, decided.decided_at, store.version_url(decided.name, decided.version)


def _since(task: TaskOverview, champion: Version | None) -> datetime | None:
    """When the champion became it: the ledger's word, or else when it was decided about."""
    if champion is None:
        return None
    last = task.state.last_move if task.state else None
    return last.at if last is not None and last.candidate == champion.version else champion.decided_at
