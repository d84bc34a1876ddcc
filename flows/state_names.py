"""Names of the states that flows end in: they carry the outcome to whoever follows a flow run from elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from softprompt_core.errors import Outcome
from softprompt_core.lifecycle.result import LifecycleResult

_DRY_RUN = "Dry run: "


def state_name(result: LifecycleResult) -> str:
    """``Promoted``, ``Awaiting approval``, …, ``Unchanged (rejected)`` or ``Dry run: Promoted``."""
    assert isinstance(result.outcome, Outcome)  # a flow that ends has one
    return f"{_DRY_RUN if result.dry_run else ''}{result.ending.replace('_', ' ').capitalize()}"


def count_endings(results: Sequence[LifecycleResult]) -> str:
    """``1 invalid, 2 unchanged (rejected)``: the message of a state about several lifecycles."""
    counts = Counter(result.ending for result in results)
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))


def read_state_name(name: str | None) -> tuple[Outcome | None, bool]:
    """The outcome that a state's name tells, and whether it was a dry run; no outcome for names that are not ours."""
    outcome_name, _, _ = (name or "").removeprefix(_DRY_RUN).partition(" (")
    outcome = next((outcome for outcome in Outcome if outcome.state_name == outcome_name), None)
    return outcome, (name or "").startswith(_DRY_RUN)


def read_stands_for(name: str | None) -> Outcome | None:
    """The decision that ``unchanged`` stands for, where the state's name tells it."""
    outcome, _ = read_state_name(name)
    if outcome is not Outcome.UNCHANGED:
        return None
    _, _, verdict = (name or "").rstrip(")").partition(" (")
    return next((each for each in Outcome if each.value.replace("_", " ") == verdict), Outcome.PROMOTED)
