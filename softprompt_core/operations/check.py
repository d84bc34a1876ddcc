"""Look at specs before anything runs: text, data, gates, schedule and base, without MLflow, Prefect or training."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, computed_field

from softprompt_core.data import DataReport
from softprompt_core.errors import Outcome
from softprompt_core.lifecycle.resolve import examine
from softprompt_core.lifecycle.run import outcome_of
from softprompt_core.operations.status import Moment, next_run
from softprompt_core.spec import PromptSpec, load_each


class SpecCheck(BaseModel):
    """What is known of one spec file.

    Attributes:
        task: its name; None where the file does not tell.
        outcome: ``valid``, or what a lifecycle would end in before it trains anything.
        reason: why it is not valid.
        base: id and fingerprint of the base.
        base_was_loaded: whether the texts, the labels and the prompt were held against the base itself.
        gates: how many; without one nothing is promoted.
        next_run: of its schedule, in the schedule's time zone.
        data: the data report; with lengths in tokens where the base was loaded.
    """

    model_config = ConfigDict(frozen=True)

    file: str
    task: str | None = None
    outcome: Literal["valid"] | Outcome = "valid"
    reason: str = ""
    base: str | None = None
    base_was_loaded: bool = False
    gates: int = 0
    next_run: Moment | None = None
    data: DataReport | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def exit_code(self) -> int:
        return self.outcome.exit_code if isinstance(self.outcome, Outcome) else 0


def check_specs(files: Sequence[Path], *, load_base: bool = False, now: datetime | None = None) -> list[SpecCheck]:
    """One result a file, in order; a bad one does not stop the others. The second of two specs with one name is invalid.

    Args:
        load_base: load each base and see what only it can tell: whether labels can be told apart, whether prompt and texts fit,
            lengths in tokens. Takes seconds to minutes, and the memory of a training's first step.
        now: what schedules are counted from; default: the present.
    """
    return [_checked(file, spec, load_base, now or datetime.now(UTC)) for file, spec in load_each(files)]


def _checked(file: Path, spec: PromptSpec | Exception, load_base: bool, now: datetime) -> SpecCheck:
    if isinstance(spec, Exception):
        return _refused(file, None, spec)
    try:
        return _valid(file, spec, load_base, now)
    except Exception as error:
        return _refused(file, spec.name, error)


def _refused(file: Path, task: str | None, error: Exception) -> SpecCheck:
    outcome, reason = outcome_of(error)
    return SpecCheck(file=str(file), task=task, outcome=outcome, reason=reason)


def _valid(file: Path, spec: PromptSpec, load_base: bool, now: datetime) -> SpecCheck:
    task = examine(spec)
    data = task.data.report
    if load_base:
        from softprompt_core.lifecycle import train  # needs torch

        train.check(task)
        data = train.data_report(task)
    schedule = spec.schedule
    return SpecCheck(
        file=str(file),
        task=spec.name,
        base=task.base.short,
        base_was_loaded=load_base,
        gates=len(spec.gates),
        next_run=next_run(f"{schedule.cron} {schedule.timezone}", now) if schedule else None,
        data=data,
    )
