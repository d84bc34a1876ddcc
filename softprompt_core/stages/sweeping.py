"""A sweep's points, made ready and trained in groups; each group shares one base and its encoded inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from softprompt_core.errors import Diverged, InvalidInput, SoftpromptError
from softprompt_core.spec import PromptSpec
from softprompt_core.spec.grid import GridPoint
from softprompt_core.stages import training
from softprompt_core.stages.encoded import Source
from softprompt_core.stages.inputs import Inputs, gather_all
from softprompt_core.stages.trained import Trained
from softprompt_core.stages.training import OnProgress, train_together


def prepare(points: Sequence[GridPoint]) -> list[Inputs]:
    """Data and fingerprints of all points.

    Raises:
        InvalidInput: as ``gather``; or two points would train the very same prompt.
    """
    inputs = gather_all([point.spec for point in points])
    seen: dict[str, GridPoint] = {}
    for point, one in zip(points, inputs, strict=True):
        other = seen.setdefault(one.training, point)
        if other is not point:
            raise InvalidInput(
                f"trains the same prompt as {other.name}",
                where=f"--grid {point.name}",
                do="sweep settings that training reads; slices, for one, are looked at only afterwards",
            )
    return inputs


def groups(points: Sequence[GridPoint], inputs: Sequence[Inputs]) -> list[list[int]]:
    """Places of the points that can train together, in the order of their first ones."""
    found: dict[Source, list[int]] = {}
    for place, (point, one) in enumerate(zip(points, inputs, strict=True)):
        found.setdefault(Source.of(point.spec, one), []).append(place)
    return list(found.values())


def check(points: Sequence[GridPoint], inputs: Sequence[Inputs], champion: Path | None) -> int:
    """Find out whether every point can train, without training; returns the number of validation rows that checks look at.

    Raises:
        InvalidInput: a prompt or the texts do not fit the base; names the point.
    """
    rows = 0
    for group in groups(points, inputs):
        for place in group:
            point = points[place]
            try:
                training.check(point.spec, inputs[place], champion)
            except SoftpromptError as error:
                where = ": ".join(filter(None, (f"--grid {point.name}", error.where)))
                raise type(error)(error.what, where=where, do=error.do) from None
        rows = max(rows, training.checked_rows(points[group[0]].spec, inputs[group[0]]))
    return rows


def train_group(
    specs: Sequence[PromptSpec], inputs: Sequence[Inputs], champion: Path | None, on_progress: OnProgress | None = None
) -> list[tuple[list[Trained], str]]:
    """Train the points of one group together; for each the seeds that gave a finite prompt, or none and the reason.

    Raises:
        InvalidInput: a prompt or the texts do not fit the base.
    """
    found = train_together(list(zip(specs, inputs, strict=True)), champion=champion, on_progress=on_progress)
    return [([], str(one)) if isinstance(one, Diverged) else (one, "") for one in found]


def axes(points: Sequence[GridPoint]) -> Mapping[str, list[Any]]:
    """Dotted key → the values that the points have, in order."""
    found: dict[str, list[Any]] = {}
    for point in points:
        for key, value in point.settings.items():
            values = found.setdefault(key, [])
            if value not in values:
                values.append(value)
    return found
